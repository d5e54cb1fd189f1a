"""The loss on bag labels: its rates, its values, and that its optimum is the truth."""

import math

import pytest
import torch

from wsi_kd.kd.bag_label_loss import background_rates, bag_label_losses


def test_background_is_the_share_of_the_background_that_lies_in_positive_bags() -> None:
    # 300 instances in positive bags, 100 in negative ones; a fifth of the 300 are positive: 240 of 340
    rates = background_rates(
        torch.tensor([1, 0, 1]), torch.tensor([100, 100, 200]), classes=2, witness_rate=0.2
    )

    assert rates.tolist() == pytest.approx([240 / 340])


def test_each_class_is_told_from_all_others() -> None:
    rates = background_rates(torch.tensor([0, 1, 2]), torch.tensor([10, 20, 30]), classes=3, witness_rate=0.5)

    assert rates.tolist() == pytest.approx([10 / 50, 15 / 45])


@pytest.mark.parametrize("witness_rate", [0.0, 1.0, -0.1])
def test_a_positive_bag_without_positives_is_refused(witness_rate: float) -> None:
    with pytest.raises(ValueError, match="witness rate above 0 and below 1"):
        background_rates(torch.tensor([0, 1]), torch.tensor([1, 1]), classes=2, witness_rate=witness_rate)


def test_losses_are_those_worked_by_hand() -> None:
    logits, background = torch.tensor([[0.0, 0.0]]), torch.tensor([0.4, 0.2])

    losses = bag_label_losses(logits, torch.tensor([2]), background=background)

    outside = -math.log(0.6 * 0.5)  # class 1: 1 - (0.4 + 0.6 * 0.5)
    inside = -math.log(0.2 + 0.8 * 0.5)
    assert losses.tolist() == pytest.approx([(outside + inside) / 2])


def test_large_logits_keep_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[200.0], [200.0], [-200.0], [-200.0]], requires_grad=True)
    losses = bag_label_losses(logits, torch.tensor([0, 1, 0, 1]), background=torch.tensor([0.3]))
    losses.sum().backward()

    assert losses.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])


def test_the_optimum_is_the_truth() -> None:
    """Of what lies in positive bags a tenth is positive; half of the instances look like A, the rest like B.

    All positives look like A. Counted: A holds 50 negatives in negative bags, 40 negatives and 10 positives
    in positive ones, B holds 50 and 50. The logit of A that fits best says 10 of 100.
    """
    background = background_rates(torch.tensor([0, 1]), torch.tensor([100, 100]), classes=2, witness_rate=0.1)
    logit = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    # among negatives a look lies in a positive bag at the rate r = 90 / 190: 90 negatives of look A
    inside = 90.0 * 90 / 190 + 10.0
    outside = 90.0 * 100 / 190
    optimizer = torch.optim.LBFGS([logit], max_iter=200, tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        both = bag_label_losses(logit.expand(2, 1), torch.tensor([1, 0]), background=background.double())
        loss = inside * both[0] + outside * both[1]
        loss.backward()
        return loss

    optimizer.step(closure)

    assert logit.sigmoid().item() == pytest.approx(0.1, abs=1e-6)
