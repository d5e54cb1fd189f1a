"""Teachers that agree up to rounding: the program is nearly flat, and has to end all the same."""

import pytest
import torch

from wsi_kd.kd.losses.ae_kd import AeKdLoss
from wsi_kd.kd.losses.kl import tempered_kl
from wsi_kd.kd.min_norm import min_norm_weights
from wsi_kd.kd.outputs import Outputs


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cap", [0.34, 0.6, 1.0])
@pytest.mark.parametrize("difference", [1e-4, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15])
def test_vectors_that_differ_by_little_have_the_vector_that_they_share(difference, cap):
    for seed in range(8):
        vectors = draw(seed, 1, 5) + difference * draw(100 + seed, 4, 5)
        weights = min_norm_weights(vectors @ vectors.T, cap=cap)
        assert weights.sum().item() == pytest.approx(1.0, abs=1e-12)
        assert weights.min().item() >= 0.0
        assert weights.max().item() <= cap + 1e-12
        slope = vectors @ (weights @ vectors) / vectors.square().sum()
        may_grow, may_shrink = slope[weights < cap - 1e-9], slope[weights > 1e-9]
        if len(may_grow):
            assert may_shrink.max().item() - may_grow.min().item() < 1e-6


def test_a_pair_beside_another_is_weighted_as_one():
    """(1, 0) and (1, 1e-9) against (0, 1): the nearest point is (1/2, 1/2), as without the second."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1e-9], [0.0, 1.0]], dtype=torch.float64)
    weights = min_norm_weights(vectors @ vectors.T)
    torch.testing.assert_close(weights @ vectors, torch.full((2,), 0.5).double(), rtol=0, atol=1e-7)
    assert weights[2].item() == pytest.approx(0.5, abs=1e-7)


def test_a_batch_that_all_teachers_are_sure_of_is_learned_from():
    """Probabilities of 1 up to the last bits of float32, in a batch like many of five good teachers."""
    labels = torch.arange(16) % 10
    sure = 16.0 * torch.nn.functional.one_hot(labels, 10).float()
    teachers = [sure + 0.3 * draw(seed, 16, 10).float() for seed in range(5)]
    for seed in range(6):
        student = draw(50 + seed, 16, 10).float().requires_grad_()
        loss = AeKdLoss(temperature=1.0, tolerance=0.6)
        value = loss(Outputs(student), [Outputs(logits) for logits in teachers], None)
        (gradient,) = torch.autograd.grad(value, student)
        each = [tempered_kl(student, logits, temperature=1.0).item() for logits in teachers]
        assert min(each) <= value.item() <= max(each)
        alone = torch.autograd.grad(tempered_kl(student, teachers[0], temperature=1.0), student)[0]
        torch.testing.assert_close(gradient, alone, rtol=1e-2, atol=1e-6)
