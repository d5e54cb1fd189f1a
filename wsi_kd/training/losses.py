"""The two losses of WENO and the guard that finds the first loss that is not finite."""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.bags.packing import PackedBags
from wsi_kd.core.errors import RunFailed
from wsi_kd.mil.outputs import AuxiliaryTeacher, DualStreamTeacher
from wsi_kd.training.ranks import Ranks

RELEASED_EPSILON: Final = 1e-5
"""What the released code adds inside every log."""


def teacher_losses(
    bag_logits: Float[Tensor, "bags classes"], bag_labels: Int64[Tensor, "bags"]
) -> Float[Tensor, "bags"]:
    """Cross entropy of each bag."""
    return F.cross_entropy(bag_logits, bag_labels, reduction="none")


def student_losses(
    instance_logits: Float[Tensor, "instances positives"],
    pseudo_labels: Float[Tensor, "instances positives"],
    *,
    negative_weight: float,
) -> Float[Tensor, "instances"]:
    """Weighted binary cross entropy with soft labels q on logits s, WENO's student loss (equation 7).

    w (1 - q) softplus(s) + (1 - w) q softplus(-s); in logit space the gradient is right at any s, where
    log(p + 1e-5) has none left for a confidently wrong instance. Returned is the mean over the positive
    classes, each told from all others.

    >>> student_losses(torch.tensor([[0.0]]), torch.tensor([[1.0]]), negative_weight=0.1).item() / math.log(2)
    0.9...
    """
    positive = (1.0 - negative_weight) * pseudo_labels * F.softplus(-instance_logits)
    negative = negative_weight * (1.0 - pseudo_labels) * F.softplus(instance_logits)
    return (positive + negative).mean(dim=1)


def released_teacher_losses(
    bag_logits: Float[Tensor, "bags classes"], bag_labels: Int64[Tensor, "bags"]
) -> Float[Tensor, "bags"]:
    """The released code's: -log(p + 1e-5), p the probability of the bag's class."""
    right = bag_logits.softmax(dim=1).gather(1, bag_labels[:, None]).squeeze(1)
    return -(right + RELEASED_EPSILON).log()


def released_bag_losses(teacher: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the bag loss that the released code trains such a teacher on.

    1e-5 stands in the log of its attention teacher; its dual-stream teacher has the plain cross entropy.
    """
    return teacher_losses if isinstance(teacher, DualStreamTeacher) else released_teacher_losses


def released_student_losses(
    instance_logits: Float[Tensor, "instances positives"],
    pseudo_labels: Float[Tensor, "instances positives"],
    *,
    negative_weight: float,
) -> Float[Tensor, "instances"]:
    """The released code's: -w (1 - q) log(1 - p + 1e-5) - (1 - w) q log(p + 1e-5), p = sigmoid(s)."""
    positive = (1.0 - negative_weight) * pseudo_labels * (instance_logits.sigmoid() + RELEASED_EPSILON).log()
    rest = (-instance_logits).sigmoid()
    negative = negative_weight * (1.0 - pseudo_labels) * (rest + RELEASED_EPSILON).log()
    return -(positive + negative).mean(dim=1)


def teacher_objective(
    bag_losses: Float[Tensor, "bags"],
    teacher: nn.Module,
    *,
    hidden: Float[Tensor, "instances hidden"],
    packed: PackedBags,
    keep: Bool[Tensor, "instances"] | None,
    ledger: "LossLedger",
    bags: Sequence[int],
) -> Float[Tensor, ""]:
    """Return what a teacher is trained on: the mean bag loss, with its auxiliary loss where it has one.

    The auxiliary losses are noted in the ledger against `bags`; the bag losses are the caller's to note.
    """
    if not isinstance(teacher, AuxiliaryTeacher):
        return bag_losses.mean()
    auxiliary = teacher.auxiliary_losses(hidden, packed.offsets, packed.labels, keep=keep)
    ledger.add("auxiliary loss", auxiliary, bags)
    shares = teacher.loss_shares
    return shares.bag * bag_losses.mean() + shares.auxiliary * auxiliary.mean()


class _Entry(NamedTuple):
    """Losses of one term in one step."""

    added: int
    """How many had been noted with it, by any process alike."""
    term: str
    losses: Tensor
    bags: Sequence[int]
    weight: float


class LossLedger:
    """The losses of one epoch in the order of the steps, read at its end: no step waits for the GPU."""

    def __init__(self, slide_ids: Sequence[str], ranks: Ranks | None = None) -> None:
        self._slide_ids = slide_ids
        self._ranks = ranks or Ranks()
        self._entries: list[_Entry] = []
        self._added = 0

    def add(
        self, term: str, losses: Float[Tensor, "items"], bags: Sequence[int], *, weight: float = 1.0
    ) -> None:
        """Note losses and the index of the bag each came from; a stand-in's (`Ranks`) do not count.

        `weight` is how many items each counts as: a mean over a process's share of a batch counts as that
        share.
        """
        self._added += 1
        if not self._ranks.share.idle:
            self._entries.append(_Entry(self._added, term, losses.detach(), bags, weight))

    def mean(self, term: str) -> float | None:
        """Return the mean of a term over the epoch, of all processes; None where it was never added."""
        entries = [entry for entry in self._entries if entry.term == term]
        if self._ranks.count == 1:
            losses = [entry.losses for entry in entries]
            return torch.cat(losses).double().mean().item() if losses else None
        total = sum(entry.weight * entry.losses.double().sum().item() for entry in entries)
        count = sum(entry.weight * len(entry.losses) for entry in entries)
        total, count = self._ranks.summed([total, count])
        return total / count if count else None

    def check(self, epoch: int) -> None:
        """Check that every loss of every process is finite.

        Raises:
            RunFailed: naming the first term, bag and epoch that is not.
        """
        faults = [fault for fault in self._ranks.gathered(self._first_fault()) if fault is not None]
        if faults:
            _, told = min(faults)
            raise RunFailed(f"epoch {epoch}: the {told}; lower train.learning_rate or train.gradient_clip")

    def _first_fault(self) -> tuple[int, str] | None:
        """Return when the first loss that is not finite was added, and what it is."""
        for added, term, losses, bags, _ in self._entries:
            wrong = (~losses.isfinite()).nonzero().flatten().tolist()
            if wrong:
                value, slide_id = losses[wrong[0]].item(), self._slide_ids[bags[wrong[0]]]
                found = "not a number" if math.isnan(value) else "infinite"
                return added, f"{term} of bag {slide_id} is {found}"
        return None
