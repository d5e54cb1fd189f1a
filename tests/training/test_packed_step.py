"""A joint step on packed bags: equal to the mean over bags in any order, and in bfloat16 close to float32."""

import numpy as np
import pytest
import torch

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack
from wsi_kd.training import schedules
from wsi_kd.training.loop import start_run
from wsi_kd.training.losses import LossLedger

SIZES = (1, 300, 20_000, 7)


def ragged_bags(sizes=SIZES, dim=16):
    rng = np.random.default_rng(0)
    total = sum(sizes)
    return BagSet(
        slide_ids=tuple(f"bag_{index}" for index in range(len(sizes))),
        features=rng.standard_normal((total, dim)).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        labels=np.arange(len(sizes), dtype=np.int64) % 2,
        tile_labels=np.zeros(total, np.int8),
        coords=np.zeros((total, 2), np.int64),
        header={},
    )


class Steps:
    """Runs joint steps on given batches and keeps what they were about to step on."""

    def __init__(self, monkeypatch, plans, precision="float32"):
        self.taken, self.bags = [], ragged_bags()
        self.monkeypatch, self.plans, self.precision = monkeypatch, plans, precision

    def gradients(self, batches):
        """Return loss and gradients of each batch, all at the first weights."""
        self.taken = []
        with start_run(
            self.bags,
            self.bags,
            classes=2,
            architecture=self.plans.architecture._replace(dropout=0.0),
            optimization=self.plans.optimization._replace(precision=self.precision),
            with_student=True,
        ) as run:
            packed = [(batch, pack(self.bags, batch, device="cpu", dtype=torch.float32)) for batch in batches]
            self.monkeypatch.setattr(schedules, "shuffled_batches", lambda _: iter(packed))
            self.monkeypatch.setattr(schedules, "take_step", self.keep)
            ledger = LossLedger(self.bags.slide_ids)
            schedules.joint_epoch(run, ledger, distillation=self.plans.distillation, mining=None)
            self.terms = [(entry.term, entry.losses) for entry in ledger._entries]
        return self.taken

    def keep(self, run, loss, ledger, *, bag):
        weights = list(run.model.parameters())
        self.taken.append((loss.detach(), torch.autograd.grad(loss, weights)))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]])
def test_a_packed_step_has_the_loss_and_gradient_of_a_loop_over_bags(monkeypatch, plans, order):
    steps = Steps(monkeypatch, plans)
    shares = torch.tensor([SIZES[bag] for bag in order]) / sum(SIZES)
    steps.gradients([order])
    teacher, student = (dict(steps.terms)[f"{term} loss"] for term in ("teacher", "student"))
    steps.gradients([[bag] for bag in order])
    looped = {term: [] for term in ("teacher loss", "student loss")}
    for term, losses in steps.terms:
        looped[term].append(losses)
    torch.testing.assert_close(teacher, torch.cat(looped["teacher loss"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(student, torch.cat(looped["student loss"]), atol=1e-5, rtol=1e-5)
    ((loss, _),) = steps.gradients([order])
    torch.testing.assert_close(loss, teacher.mean() + (shares * student).sum(), atol=1e-5, rtol=1e-5)


def test_the_order_of_bags_in_a_batch_does_not_move_the_gradient(monkeypatch, plans):
    steps = Steps(monkeypatch, plans)
    ((_, first),) = steps.gradients([[0, 1, 2, 3]])
    ((_, second),) = steps.gradients([[2, 3, 0, 1]])
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_bfloat16_steps_agree_with_float32_and_keep_losses_in_float32(monkeypatch, plans):
    ((exact, gradients),) = Steps(monkeypatch, plans).gradients([[0, 1, 2, 3]])
    rounded = Steps(monkeypatch, plans, precision="bfloat16")
    ((loss, found),) = rounded.gradients([[0, 1, 2, 3]])
    assert {losses.dtype for _, losses in rounded.terms} == {torch.float32}
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    for one, other in zip(found, gradients, strict=True):
        assert one.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert cosine.item() > 0.99 or other.norm() < 1e-6
