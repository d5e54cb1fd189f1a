"""Transforms and distances of searched losses: hand-worked values, limits, and equality with known losses."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.operations import OPERATIONS

TRANSFORMS, DISTANCES = OPERATIONS.transforms, OPERATIONS.distances


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(*values):
    """One sample of 2 channels and 1 x 2 positions from four numbers."""
    return torch.tensor(values, dtype=torch.float64).view(1, 2, 1, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abs", [3.0, 1.0, 4.0, 2.0]),
        ("pow2", [9.0, 1.0, 16.0, 4.0]),
        ("spatial_attention", [12.5, 2.5]),
        ("channel_attention", [1.0, 3.0]),
        ("mask", [3.0, 0.0, 4.0, 0.0]),  # their mean is 2
        ("norm_hw", [1.0, -1.0, 1.0, -1.0]),
        ("norm_c", [-1.0, -1.0, 1.0, 1.0]),
        ("channel_similarity", [5.0, 5.0, 5.0, 10.0]),  # products of (3, -1) and (4, 2), over two positions
        ("local", [2.0, -2.0, 1.0, -1.0]),  # both positions are in one 3 x 3, of mean 1 and 3
    ],
)
def test_transforms_by_hand(name, expected):
    found = TRANSFORMS[name](maps(3.0, -1.0, 4.0, 2.0), 1.0)

    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_several_scales_are_side_by_side():
    """A 4 x 4 map, its mean, and the means of its quarters."""
    grid = torch.arange(16.0).view(1, 1, 4, 4)
    found = TRANSFORMS["multi_scale"](grid, 1.0)

    assert found.shape == (1, 1, 21, 1)
    assert found.flatten()[16:].tolist() == [7.5, 2.5, 4.5, 10.5, 12.5]


def test_cosines_between_samples():
    rows = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])[:, :, None, None]
    half = math.sqrt(0.5)

    found = TRANSFORMS["batch_similarity"](rows, 1.0)[:, :, 0, 0]

    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, half], [0.0, 1.0, half], [half, half, 1.0]]))


@pytest.mark.parametrize(("name", "over"), [("softmax_n", (0,)), ("softmax_c", (1,)), ("softmax_hw", (2, 3))])
def test_softmax_over_its_axes_at_a_temperature(name, over):
    values = draw(0, 3, 4, 2, 2)
    found = TRANSFORMS[name](values, 2.0)
    weights = (values / 2.0).exp()

    torch.testing.assert_close(found, weights / weights.sum(dim=over, keepdim=True))


@pytest.mark.parametrize(("name", "over"), [("norm_n", (0,)), ("norm_c", (1,)), ("norm_hw", (2, 3))])
def test_norms_over_their_axes(name, over):
    found = TRANSFORMS[name](5.0 + 3.0 * draw(0, 3, 4, 2, 2), 1.0)

    assert found.mean(dim=over).abs().max().item() < 1e-9
    torch.testing.assert_close(found.square().mean(dim=over), torch.ones_like(found.mean(dim=over)))


def test_distances_by_hand():
    ours, theirs = maps(3.0, -1.0, 4.0, 2.0), maps(1.0, -1.0, 4.0, 0.0)

    assert DISTANCES["l1"](ours, theirs, 1.0).item() == pytest.approx(1.0)
    assert DISTANCES["l2"](ours, theirs, 1.0).item() == pytest.approx(2.0)
    assert DISTANCES["smooth_l1"](ours, theirs, 1.0).item() == pytest.approx(0.75)
    cosine = (3 + 1 + 16) / math.sqrt((9 + 1 + 16 + 4) * (1 + 1 + 16))
    assert DISTANCES["cosine"](ours, theirs, 1.0).item() == pytest.approx(1.0 - cosine)
    correlation = torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1].item()
    assert DISTANCES["pearson"](ours, theirs, 1.0).item() == pytest.approx(1.0 - correlation)


def test_the_divergence_is_that_of_the_teacher_from_the_student():
    """Over channels, at a temperature, times its square; the mean over samples and positions."""
    ours, theirs = draw(0, 3, 4, 2, 2), draw(1, 3, 4, 2, 2)
    rows = [values.permute(0, 2, 3, 1).reshape(12, 4) / 3.0 for values in (ours, theirs)]
    expected = 9.0 * F.kl_div(
        rows[0].log_softmax(1), rows[1].log_softmax(1), reduction="batchmean", log_target=True
    )

    torch.testing.assert_close(DISTANCES["kl"](ours, theirs, 3.0), expected)


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (1, 3, 1, 1), (4, 3, 5, 2), (1, 1, 2, 2)])
@pytest.mark.parametrize("value", [None, 0.0, 7.0])
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_values_and_gradients_are_finite(name, value, shape):
    """Of one sample, one position, one channel, zeros and constants too."""
    values = (draw(0, *shape) if value is None else torch.full(shape, value)).requires_grad_()

    found = TRANSFORMS[name](values, 4.0)
    (gradient,) = torch.autograd.grad(found.sum(), values)

    assert len(found) == len(values)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_distance_is_0_for_equals_and_positive_else(name):
    ours, theirs = draw(0, 4, 3, 2, 2), draw(1, 4, 3, 2, 2)

    assert abs(DISTANCES[name](ours, ours, 2.0).item()) < 1e-12
    assert DISTANCES[name](ours, theirs, 2.0).item() > 0.1


def test_operations_can_be_sent_to_a_process():
    sent = pickle.loads(pickle.dumps(OPERATIONS))
    values = draw(0, 3, 4, 2, 2)

    for name, transform in TRANSFORMS.items():
        assert torch.equal(sent.transforms[name](values, 2.0), transform(values, 2.0))


@pytest.mark.parametrize(
    ("genome", "said"),
    [
        (Genome(transforms=("abs", "norm")), r"unknown transform of a searched loss 'norm'.*did you mean"),
        (Genome(distance="l3"), r"unknown distance of a searched loss 'l3'; known: cosine"),
    ],
)
def test_unknown_operations_are_refused(genome, said):
    with pytest.raises(BadInput, match=said):
        OPERATIONS.check(genome)
