"""Losses: hand-worked values, limits, the released code's forms, and the guard against NaN."""

import math

import pytest
import torch

from wsi_kd.bags.packing import PackedBags
from wsi_kd.core.errors import RunFailed
from wsi_kd.mil.clam_sb import ClamSb
from wsi_kd.training.losses import (
    LossLedger,
    released_student_losses,
    released_teacher_losses,
    student_losses,
    teacher_losses,
    teacher_objective,
)


def test_teacher_loss_of_even_odds_is_log_two():
    losses = teacher_losses(torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), torch.tensor([1, 0]))
    torch.testing.assert_close(losses, torch.tensor([math.log(2.0), math.log(4.0)]))


def test_student_loss_by_hand():
    logits, soft = torch.tensor([0.0, math.log(3.0), -math.log(3.0)]), torch.tensor([1.0, 0.5, 0.0])
    # softplus(0) = log 2, softplus(log 3) = log 4, softplus(-log 3) = log(4/3)
    expected = [0.9 * math.log(2), 0.45 * math.log(4 / 3) + 0.05 * math.log(4), 0.1 * math.log(4 / 3)]
    torch.testing.assert_close(
        student_losses(logits[:, None], soft[:, None], negative_weight=0.1), torch.tensor(expected)
    )


def test_the_student_loss_is_the_mean_over_the_positive_classes():
    # softplus(0) = log 2, softplus(log 3) = log 4
    logits, soft = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[1.0, 0.0]])
    expected = (0.9 * math.log(2) + 0.1 * math.log(4)) / 2
    assert student_losses(logits, soft, negative_weight=0.1).item() == pytest.approx(expected, rel=1e-6)
    released = -(0.9 * math.log(0.50001) + 0.1 * math.log(0.25001)) / 2
    found = released_student_losses(logits, soft, negative_weight=0.1).item()
    assert found == pytest.approx(released, rel=1e-6)


def test_student_loss_is_least_where_the_weighted_odds_say():
    weight, soft = 0.1, 0.3
    logits = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    best = math.log((1 - weight) * soft / (weight * (1 - soft)))
    with torch.no_grad():
        logits += best
    labels = torch.tensor([[soft]], dtype=torch.float64)
    student_losses(logits, labels, negative_weight=weight).sum().backward()
    assert logits.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("logit", [-80.0, -20.0, 20.0, 80.0])
def test_a_confidently_wrong_instance_keeps_its_gradient(logit):
    logits = torch.tensor([[logit]], requires_grad=True)
    soft = torch.tensor([[1.0 if logit < 0 else 0.0]])
    student_losses(logits, soft, negative_weight=0.1).sum().backward()
    assert logits.grad.item() == pytest.approx(-0.9 if logit < 0 else 0.1, rel=1e-6)


def test_gradient_of_the_student_loss():
    logits = torch.randn(
        3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    soft = torch.linspace(0, 1, 6, dtype=torch.float64).view(3, 2)
    assert torch.autograd.gradcheck(lambda s: student_losses(s, soft, negative_weight=0.2), logits)


def test_released_losses_by_hand():
    losses = released_teacher_losses(torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), torch.tensor([1, 0]))
    torch.testing.assert_close(losses, -torch.tensor([0.50001, 0.25001]).log())
    found = released_student_losses(
        torch.tensor([[math.log(3.0)]]), torch.tensor([[0.5]]), negative_weight=0.1
    )
    assert found.item() == pytest.approx(-0.45 * math.log(0.75001) - 0.05 * math.log(0.25001), rel=1e-6)


def test_released_student_loss_all_but_loses_the_gradient_of_a_confidently_wrong_instance():
    logits = torch.tensor([[-20.0]], requires_grad=True)
    released_student_losses(logits, torch.ones(1, 1), negative_weight=0.1).sum().backward()
    assert logits.grad.item() == pytest.approx(-0.9 * 2.061e-9 / 1.0002061e-5, rel=1e-3)


def test_the_ledger_names_an_auxiliary_loss_that_is_not_finite():
    torch.manual_seed(0)
    teacher, ledger = ClamSb(hidden_dim=4, attention_dim=3, classes=3), LossLedger(["a", "b"])
    torch.nn.init.constant_(teacher.instance_heads.weight[5], math.nan)
    packed = PackedBags(torch.randn(9, 4), torch.tensor([0, 4, 9]), torch.tensor([1, 2]))
    teacher_objective(
        torch.zeros(2), teacher, hidden=packed.instances, packed=packed, keep=None, ledger=ledger, bags=[0, 1]
    )
    with pytest.raises(RunFailed, match=r"epoch 3: the auxiliary loss of bag b is not a number"):
        ledger.check(3)


def test_the_ledger_names_the_first_loss_that_is_not_finite():
    ledger = LossLedger(["a", "b", "c"])
    ledger.add("teacher loss", torch.tensor([1.0, 3.0]), [0, 1])
    ledger.check(7)
    assert ledger.mean("teacher loss") == 2.0
    assert ledger.mean("student loss") is None
    ledger.add("student loss", torch.tensor([1.0, math.nan]), [0, 2])
    ledger.add("teacher loss", torch.tensor([math.inf]), [0])
    with pytest.raises(RunFailed, match=r"epoch 7: the student loss of bag c is not a number; lower"):
        ledger.check(7)
