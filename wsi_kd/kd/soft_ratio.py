"""Which soft ratio and temperature to distill with: a guess from kernel students, before anything is trained.

Source: the risk analysis of Ji and Zhu, NeurIPS 2020 (arXiv 2010.10090), turned around: `wide_networks` says
what an infinitely wide student of a soft ratio comes to, and held-out samples say which one is best.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.tangent_kernels import relu_kernel
from wsi_kd.kd.wide_networks import check_task, effective_logits, kernel_student

RATIOS: Final = (1.0, 0.95, 0.8, 0.6, 0.4, 0.2, 0.05, 0.01)
TEMPERATURES: Final = (1.0, 2.0, 4.0)
FOLDS: Final = 5
REPEATS: Final = 4


class Setting(NamedTuple):
    """One way to distill, judged."""

    soft_ratio: float
    temperature: float
    error: float
    """Share of the held-out samples on the wrong side, mean over folds."""
    standard_error: float
    """Of that share, as a proportion of all samples."""
    loss: float
    """Cross entropy of the held-out samples, a tie breaker."""


class Suggestion(NamedTuple):
    """What to distill with."""

    best: Setting
    tried: list[Setting]
    teacher_error: float
    """Of the teacher itself, on the same samples."""


def suggest_soft_ratio(
    features: Float[Tensor, "rows width"],
    teacher_logits: Float[Tensor, "samples"],
    labels: Int64[Tensor, "samples"],
    *,
    ratios: Sequence[float] = RATIOS,
    temperatures: Sequence[float] = TEMPERATURES,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
    times_squared_temperature: bool = False,
) -> Suggestion:
    """Choose soft ratio and temperature by the held-out error of kernel students; seconds for a few thousand.

    A network that is stopped before its end fits labels less than its kernel does, so it may do with a softer
    ratio; taking the softest within a standard error went too far (docs/kd_theory.md).

    The kernel is that of a wide two-layer ReLU network on the features, with a constant input added. The
    teacher must not have been trained on these samples, or it looks better than it is.

    Args:
        features: what the student's head sees, standardized here.
        teacher_logits: of class 1 against class 0.
        labels: 0 or 1, those that the held-out error is counted on.
        ratios: soft ratios to try, each above 0 and at most 1.
        temperatures: to try; at soft ratio 1 all are the same, and one is tried.
        folds: of the cross-validation, by samples; pass one row a case.
        repeats: how often all samples are dealt into folds anew; the error of one deal is too noisy for some
            hundred samples.
        seed: of the deals.
        times_squared_temperature: as in `effective_logits`.

    Raises:
        BadInput: as `effective_logits`; features that do not fit, fewer samples than two a fold.
    """
    check_task(teacher_logits, labels)
    if len(features) != len(labels) or not bool(features.isfinite().all()):
        raise BadInput(
            f"{len(features)} rows of features for {len(labels)} labels: expected one each, finite"
        )
    if min(folds - 1, repeats) < 1 or len(labels) < 2 * folds:
        raise BadInput(
            f"{folds} folds of {len(labels)} samples, {repeats} times: expected 2 folds of 2 samples, "
            "once, or more"
        )
    kernel = relu_kernel(_with_constant(features))
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(labels), generator=generator) for _ in range(repeats)]
    held_out = [order[fold::folds] for order in orders for fold in range(folds)]
    pairs = [
        (ratio, temperature)
        for ratio in ratios
        for temperature in (temperatures[:1] if ratio == 1.0 else temperatures)
    ]
    tried = [
        _judge(kernel, logits, labels, held_out=held_out, setting=pair)
        for pair in pairs
        for logits in [
            effective_logits(
                teacher_logits,
                labels,
                soft_ratio=pair[0],
                temperature=pair[1],
                times_squared_temperature=times_squared_temperature,
            )
        ]
    ]
    wrong = ((teacher_logits > 0) != labels.bool()).double().mean()
    return Suggestion(min(tried, key=lambda one: (one.error, one.loss)), tried, float(wrong))


def _judge(
    kernel: Tensor,
    logits: Tensor,
    labels: Tensor,
    *,
    held_out: Sequence[Tensor],
    setting: tuple[float, float],
) -> Setting:
    wrong, loss = 0.0, 0.0
    for rows in held_out:
        rest = torch.ones(len(labels), dtype=torch.bool)
        rest[rows] = False
        student = kernel_student(kernel[rest][:, rest], logits[rest])
        found = student.predict(kernel[rows][:, rest])
        truth = labels[rows].double()
        wrong += float(((found > 0) != truth.bool()).sum())
        loss += float(F.binary_cross_entropy_with_logits(found, truth, reduction="sum"))
    seen = sum(len(rows) for rows in held_out)
    error = wrong / seen
    spread = math.sqrt(error * (1.0 - error) / len(labels))
    return Setting(*setting, error, spread, loss / seen)


def _with_constant(features: Tensor) -> Tensor:
    """Return standardized features, a constant 1 beside them, the row's length about sqrt(2)."""
    values = features.double()
    spread = values.std(dim=0, correction=0)
    values = (values - values.mean(dim=0)) / torch.where(spread > 0, spread, torch.ones_like(spread))
    ones = values.new_ones(len(values), 1)
    return torch.cat([values / math.sqrt(values.shape[1]), ones], dim=1)
