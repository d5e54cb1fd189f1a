"""Two models on the same bags: the loss of each bag, and their paired difference."""

import math
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.losses import teacher_losses
from wsi_kd.training.validation import pool_student

SLOPE_DEVIATION: Final = 10.0
"""Of the prior on the calibration's slope: weak, it only keeps separable bags from an infinite one."""


class BagLosses(NamedTuple):
    """Cross entropy of every bag by teacher and student; both on the CPU."""

    teacher: Float64[Tensor, "bags"]
    student: Float64[Tensor, "bags"] | None
    """Of the calibrated student; None without one."""


class PairedDifference(NamedTuple):
    """Mean over bags of one model's loss less another's, and its standard error."""

    mean: float
    standard_error: float

    def exceeds(self, tolerance: float) -> bool:
        """Tell whether the mean is above `tolerance` standard errors."""
        return self.mean > tolerance * self.standard_error


@torch.no_grad()
def bag_losses(model: TeacherStudent, bags: BagSet, *, student_pooling: str, top_k: int) -> BagLosses:
    """Score every bag alone and whole, in float32; `model` must be in eval mode.

    The student's pooled logits are calibrated on these bags first (`calibrate`): its training shifts all
    its logits, and a bag's maximum grows with the bag, so that they are no log-odds of the bag.
    """
    device = next(model.parameters()).device
    teacher, student = [], []
    for bag in range(len(bags.labels)):
        packed = pack(bags, [bag], device=device, dtype=torch.float32)
        output = model(packed.instances, packed.offsets)
        teacher.append(output.bag_logits.double().cpu())
        if output.instance_logits is not None:
            pooled = pool_student(
                output.instance_logits, packed.offsets, student_pooling=student_pooling, top_k=top_k
            )
            student.append(pooled.double().cpu())
    labels = torch.from_numpy(bags.labels)
    losses = teacher_losses(torch.cat(teacher), labels)
    calibrated = teacher_losses(calibrate(torch.cat(student), labels), labels) if student else None
    return BagLosses(losses, calibrated)


@torch.enable_grad()
def calibrate(
    scores: Float64[Tensor, "bags positives"], labels: Int64[Tensor, "bags"]
) -> Float64[Tensor, "bags classes"]:
    """Return class logits (0, a x_1 + b_1, ...) of least cross entropy, x the scores at deviation 1.

    One slope a for all classes, one offset b_c a class; a has a normal prior of deviation `SLOPE_DEVIATION`
    (Platt, 1999, with several classes).
    """
    centered = scores - scores.mean(dim=0)
    scaled = centered / centered.square().mean(dim=0).sqrt().clamp(min=1e-12)
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    shifts = torch.zeros(scores.shape[1], dtype=torch.float64, requires_grad=True)

    def logits() -> Tensor:
        return F.pad(slope * scaled + shifts, (1, 0))

    optimizer = torch.optim.LBFGS([slope, shifts], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        prior = 0.5 * (slope / SLOPE_DEVIATION).square() / len(labels)
        value = F.cross_entropy(logits(), labels) + prior
        torch.autograd.backward(value)
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return logits().detach()


def paired_difference(losses: Float64[Tensor, "bags"], other: Float64[Tensor, "bags"]) -> PairedDifference:
    """Return mean and standard error of `losses - other`, bag by bag.

    >>> paired_difference(torch.tensor([1.0, 3.0]).double(), torch.tensor([0.0, 0.0]).double())
    PairedDifference(mean=2.0, standard_error=1.0)
    """
    difference = losses - other
    spread = difference.std().item() if len(difference) > 1 else 0.0
    return PairedDifference(difference.mean().item(), spread / math.sqrt(len(difference)))
