"""The shortest vector in the capped hull: closed forms, optimality, scipy, the released code's numbers."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd import min_norm
from wsi_kd.kd.min_norm import min_norm_weights

CAPS = [0.25, 0.4, 0.6, 1.0]


def drawn(seed, vectors, *, length=12):
    """Vectors of lengths that differ a hundredfold, around a common direction."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(vectors, length, generator=generator, dtype=torch.float64) + 0.5
    return found * 10.0 ** (2.0 * torch.rand(vectors, 1, generator=generator, dtype=torch.float64) - 1.0)


def gram_of(vectors):
    return vectors @ vectors.T


def shortest(vectors, cap=1.0):
    return min_norm_weights(gram_of(vectors), cap=cap) @ vectors


def gap_to_the_bound(gram, weights, cap):
    """How far the value can lie above the minimum at most: from the linear program of its slope."""
    slope = gram @ weights
    left, bound = 1.0, 0.0
    for index in slope.argsort().tolist():
        share = min(cap, left)
        bound, left = bound + share * slope[index].item(), left - share
    return (weights @ slope).item() - bound


def by_scipy(gram, cap):
    gram = gram / np.trace(gram)
    number = len(gram)
    found = minimize(
        lambda weights: 0.5 * weights @ gram @ weights,
        np.full(number, 1.0 / number),
        jac=lambda weights: gram @ weights,
        bounds=[(0.0, cap)] * number,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1.0, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x


@pytest.mark.parametrize("seed", range(6))
def test_two_vectors_have_a_closed_form(seed):
    one, other = drawn(seed, 2)
    difference = one - other
    first = (-(other @ difference) / (difference @ difference)).clamp(0.0, 1.0).item()
    assert min_norm_weights(gram_of(torch.stack([one, other]))).tolist() == pytest.approx(
        [first, 1.0 - first], abs=1e-12
    )


@pytest.mark.parametrize(
    ("vectors", "cap", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 1.0, [0.5, 0.5]),
        ([[1.0, 0.0], [3.0, 1.0]], 1.0, [1.0, 0.0]),
        ([[1.0, 0.0], [3.0, 1.0]], 0.7, [0.7, 0.3]),
        ([[1.0, 0.0], [-3.0, 0.0]], 1.0, [0.75, 0.25]),
        ([[1.0, 0.0], [-3.0, 0.0]], 0.6, [0.6, 0.4]),
    ],
)
def test_two_vectors_by_hand(vectors, cap, expected):
    found = min_norm_weights(gram_of(torch.tensor(vectors)), cap=cap)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_orthogonal_vectors_are_weighted_by_the_inverse_square_of_their_length():
    lengths = torch.tensor([1.0, 2.0, 3.0, 0.5])
    expected = lengths**-2.0 / (lengths**-2.0).sum()
    found = min_norm_weights(torch.diag(lengths**2.0))
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-7)


@pytest.mark.parametrize(("seed", "vectors"), [(seed, 2 + seed % 7) for seed in range(20)])
def test_the_conditions_of_the_minimum_hold(seed, vectors):
    gradients = drawn(seed, vectors)
    scale = gram_of(gradients).trace()
    found = shortest(gradients)
    assert (gradients @ found >= found @ found - 1e-12 * scale).all()
    for cap in [1.0 / vectors, min(1.0, 1.5 / vectors), *[cap for cap in CAPS if cap * vectors > 1.0]]:
        weights = min_norm_weights(gram_of(gradients), cap=cap)
        assert weights.sum().item() == pytest.approx(1.0, abs=1e-12)
        assert 0.0 <= weights.min().item() <= weights.max().item() <= cap + 1e-12
        assert gap_to_the_bound(gram_of(gradients) / scale, weights, cap) < 1e-12


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("seed", range(5))
def test_equals_scipy(seed, cap):
    gram = gram_of(drawn(seed, 5))
    np.testing.assert_allclose(
        min_norm_weights(gram, cap=cap).numpy(), by_scipy(gram.numpy(), cap), atol=1e-6
    )


def test_a_duplicate_changes_nothing_but_the_mean():
    gradients = drawn(3, 4)
    twice = torch.cat([gradients, gradients[:1]])
    torch.testing.assert_close(shortest(twice), shortest(gradients), rtol=0, atol=1e-9)
    assert (twice.mean(dim=0) - gradients.mean(dim=0)).norm().item() > 0.05
    weights = min_norm_weights(gram_of(twice))
    assert weights[0].item() == pytest.approx(weights[4].item(), abs=1e-9)


@pytest.mark.parametrize("vectors", [2, 3, 5])
def test_the_smallest_cap_is_the_mean(vectors):
    gram = gram_of(drawn(0, vectors))
    weights = min_norm_weights(gram, cap=1.0 / vectors)
    assert weights.tolist() == pytest.approx([1.0 / vectors] * vectors, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-300, 1e-18, 1e-9, 1e9, 1e200])
def test_the_scale_does_not_matter(scale):
    gram = gram_of(drawn(1, 5))
    torch.testing.assert_close(
        min_norm_weights(scale * gram, cap=0.6), min_norm_weights(gram, cap=0.6), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("cap", CAPS)
def test_the_order_of_vectors_does_not_matter(cap):
    gradients, order = drawn(2, 5), torch.tensor([3, 1, 4, 0, 2])
    weights = min_norm_weights(gram_of(gradients), cap=cap)
    shuffled = min_norm_weights(gram_of(gradients[order]), cap=cap)
    torch.testing.assert_close(shuffled, weights[order], rtol=0, atol=1e-12)


def test_no_vectors_at_all_are_weighted_alike():
    weights = min_norm_weights(torch.zeros(4, 4))
    assert weights.tolist() == [0.25] * 4
    assert weights.dtype == torch.float64


def test_a_vector_of_length_0_among_others_is_the_shortest():
    gradients = drawn(0, 3)
    gradients[1] = 0.0
    assert min_norm_weights(gram_of(gradients)).tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


def test_the_origin_inside_the_hull_is_found():
    corners = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 5.0]], dtype=torch.float64)
    assert shortest(corners).norm().item() < 1e-9


@pytest.mark.parametrize("cap", [0.0, 0.2, 0.3333, 1.1, math.nan])
def test_caps_that_cannot_be(cap):
    with pytest.raises(BadInput, match=r"their weights sum to 1; expected 1/3 \(the plain mean\) to 1"):
        min_norm_weights(torch.eye(3), cap=cap)


def test_a_matrix_that_is_not_finite():
    with pytest.raises(BadInput, match="the Gram matrix is not finite"):
        min_norm_weights(torch.tensor([[1.0, math.nan], [math.nan, 1.0]]))


def test_a_solver_that_does_not_end_says_so(monkeypatch):
    monkeypatch.setattr(min_norm, "ROUNDS", 0)
    with pytest.raises(RunFailed, match="no minimum after 0 rounds"):
        min_norm_weights(torch.eye(2))


@pytest.fixture(scope="module")
def released(shared_reference):
    with np.load(shared_reference / "aekd_weights.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]).double() for key in arrays.files}


FEASIBLE = [(2, 0.6), (2, 1.0), (3, 0.6), (3, 1.0), (5, 0.3), (5, 0.6), (5, 1.0)]


@pytest.mark.shared_data
@pytest.mark.parametrize(("teachers", "cap"), FEASIBLE)
class TestReleased:
    def test_weights(self, released, teachers, cap):
        gradients = released[f"M{teachers}.grads"]
        gram = gram_of(gradients.mean(dim=1))
        case = f"M{teachers}.C{cap}"
        torch.testing.assert_close(gram, released[f"M{teachers}.gram"], rtol=1e-12, atol=0)
        weights = min_norm_weights(gram, cap=cap)
        torch.testing.assert_close(weights, released[f"{case}.raw.slsqp"], rtol=0, atol=1e-6)
        torch.testing.assert_close(weights, released[f"{case}.raw.weights"], rtol=0, atol=2e-4)

    def test_weights_of_unit_vectors(self, released, teachers, cap):
        weights = min_norm_weights(released[f"M{teachers}.gram_unit"], cap=cap)
        expected = released[f"M{teachers}.C{cap}.norm.slsqp_unit"]
        torch.testing.assert_close(weights, expected, rtol=0, atol=2e-6)

    def test_small_gradients_stop_the_released_solver_and_not_this_one(self, released, teachers, cap):
        case = f"M{teachers}.C{cap}"
        weights = min_norm_weights(1e-12 * released[f"M{teachers}.gram"], cap=cap)
        torch.testing.assert_close(weights, released[f"{case}.raw.slsqp"], rtol=0, atol=1e-6)
        stopped = released[f"{case}.tiny.raw.weights"]
        filled = [min(cap, max(0.0, 1.0 - cap * index)) for index in range(teachers)]
        assert stopped.tolist() == pytest.approx(filled, abs=1e-6)


@pytest.mark.shared_data
@pytest.mark.parametrize("teachers", [2, 3])
def test_a_tolerance_that_the_released_code_fails_at_is_refused(released, teachers):
    assert released[f"M{teachers}.C0.3.raw.weights"].isnan().all()
    with pytest.raises(BadInput, match=f"largest weight 0.3 of {teachers} vectors"):
        min_norm_weights(released[f"M{teachers}.gram"], cap=0.3)
