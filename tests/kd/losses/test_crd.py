"""Contrastive representation distillation with a queue: the estimator, its negatives, its memory."""

import math

import pytest
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.crd import UNKNOWN, CrdLoss, noise_contrast
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import Outputs


def outputs(features: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(features), 2), {"pair": features})


def loss(*, memory: int = 16, width: int = 4) -> CrdLoss:
    torch.manual_seed(0)
    built = CrdLoss(width=width, memory=memory)
    built.pair = "pair"
    built.prepare(outputs(torch.zeros(2, 3)), outputs(torch.zeros(2, 5)))
    return built


def batch(samples: int, *, seed: int = 0) -> tuple[Outputs, Outputs]:
    generator = torch.Generator().manual_seed(seed)
    return (
        outputs(torch.randn(samples, 3, generator=generator)),
        outputs(torch.randn(samples, 5, generator=generator)),
    )


def plain_contrast(
    anchors: Tensor, own: Tensor, others: Tensor, *, negative: Tensor, memory: int, z: float
) -> float:
    """Compute the estimator as its formula stands, sample by sample."""
    total = 0.0
    for row, anchor in enumerate(anchors):
        noise = int(negative[row].sum()) / memory
        e = math.exp(float(anchor @ own[row]) / 0.07) / z
        total -= math.log(e / (e + noise))
        for column, other in enumerate(others):
            if negative[row, column]:
                e = math.exp(float(anchor @ other) / 0.07) / z
                total -= math.log(1 - e / (e + noise))
    return total / len(anchors)


def test_estimator_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    anchors, own = (
        unit(torch.randn(3, 4, generator=generator, dtype=torch.float64), dim=1) for _ in range(2)
    )
    others = unit(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1)
    negative = torch.rand(3, 6, generator=generator) < 0.6
    found = noise_contrast(
        anchors,
        own,
        others,
        negative=negative,
        memory=6,
        log_normalizer=torch.tensor(50.0, dtype=torch.float64).log(),
        temperature=0.07,
    )
    assert found.item() == pytest.approx(
        plain_contrast(anchors, own, others, negative=negative, memory=6, z=50.0)
    )


def test_constants_are_those_of_the_first_batch():
    crd, sides = loss(), batch(5)
    crd(*sides, None)
    ours, theirs = (unit(side, dim=1) for side in crd.embedded(*sides))
    apart = ~torch.eye(5, dtype=torch.bool)
    expected = [torch.exp(a @ b.T / 0.07)[apart].mean() * 5 for a, b in ((ours, theirs), (theirs, ours))]
    torch.testing.assert_close(crd.log_normalizers.exp(), torch.stack(expected).detach())
    before = crd.log_normalizers.clone()
    crd(*batch(5, seed=1), None)
    assert torch.equal(crd.log_normalizers, before)


def test_negatives_are_the_remembered_and_the_others_of_the_batch():
    crd, first, second = loss(), batch(3), batch(2, seed=1)
    crd(*first, None)
    ours, theirs = (unit(side, dim=1).detach() for side in crd.embedded(*second))
    others = crd._others(ours, theirs, torch.full((2,), UNKNOWN))
    assert others.negative.tolist() == [[True, True, True, False, True], [True, True, True, True, False]]
    torch.testing.assert_close(others.teacher[:3], unit(crd.embedded(*first)[1], dim=1).detach())
    torch.testing.assert_close(others.student[3:], ours)


def test_samples_of_the_same_class_are_no_negatives():
    crd = loss()
    crd(*batch(4), torch.tensor([0, 1, 0, 2]))
    others = crd._others(torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([0, 2]))
    assert others.negative.tolist() == [
        [False, True, False, True, False, True],
        [True, True, True, False, True, False],
    ]


def test_soft_labels_count_by_their_likeliest_class():
    crd = loss()
    crd(*batch(2), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    assert crd.memory_labels[:2].tolist() == [0, 1]


def test_memory_is_a_queue_that_only_training_fills():
    crd = loss(memory=4)
    crd(*batch(3), torch.tensor([0, 1, 2]))
    crd(*batch(3, seed=1), torch.tensor([3, 4, 5]))
    assert crd.memory_labels.tolist() == [4, 5, 2, 3]
    state = {name: value.clone() for name, value in crd.state_dict().items()}
    crd.eval()
    crd(*batch(3, seed=2), torch.tensor([6, 7, 8]))
    assert all(torch.equal(state[name], value) for name, value in crd.state_dict().items())
    crd.train()
    crd(*batch(6, seed=2), torch.arange(6))
    assert sorted(crd.memory_labels.tolist()) == [2, 3, 4, 5]  # of a batch larger than the memory its end


def test_a_batch_of_one_with_nothing_remembered_gives_nothing():
    crd = loss()
    assert crd(*batch(1), None).item() == 0.0
    assert crd(*batch(1, seed=1), None).item() > 0.0  # now there is one to differ from


def test_counterparts_alike_cost_less_than_counterparts_mixed_up():
    crd = loss(width=8)
    with torch.no_grad():
        for side in (crd.student_embedding, crd.teacher_embedding):
            side.weight.copy_(torch.eye(8, side.in_features))
            side.bias.zero_()
    features = torch.eye(3)
    wide = torch.eye(3, 5)
    alike = crd(outputs(features), outputs(wide), None)
    crd.remembered.zero_()
    assert crd(outputs(features), outputs(wide[[1, 2, 0]]), None) > alike + 1.0


def test_gradient_reaches_the_student_and_both_embeddings():
    crd = loss()
    ours, theirs = batch(5)
    features = ours.features["pair"].requires_grad_()
    crd(ours, theirs, None).backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    for side in (crd.student_embedding, crd.teacher_embedding):
        assert side.weight.grad.abs().sum() > 0


def test_far_embeddings_give_finite_values():
    crd = loss()
    ours, theirs = batch(6)
    crd.temperature = 1e-3
    assert torch.isfinite(crd(ours, theirs, None))


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"memory": 0}, {"width": 0}])
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        CrdLoss(**options)
