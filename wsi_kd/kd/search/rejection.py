"""Whether a genome is worth a training: five questions, the cheapest first.

    1 is the loss finite?
    2 is it 0 for a student that equals the teacher, and not lower for a random one?
    3 has it a finite gradient that is not 0?
    4 does it, minimized over the student's outputs alone, bring them nearer to the teacher's (CKA)?
    5 is its gradient, on some probes, that of a genome that was tried? Then that one's fitness is its own.

1 to 4 reject, 5 shares. The protocol is KD-Zero's idea (Li, Dong, Li, Wei, Yang, NeurIPS 2023), the questions
go back to AutoLoss-Zero (Li, Fu, Dai, Li, Huang, Zhu, CVPR 2022); neither's code is public.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.search.genome import Genome, LayerNames
from wsi_kd.kd.search.operations import OPERATIONS, Operations
from wsi_kd.kd.search.probes import Probe
from wsi_kd.kd.search.searched import SearchedLoss, build
from wsi_kd.kd.search.similarity import cka

NOT_FINITE: Final = "its loss is not finite"
NOT_LEAST: Final = "a student that equals the teacher does not have the least loss, 0"
NO_GRADIENT: Final = "its gradient is 0 or not finite"
NO_GAIN: Final = "minimized, it brings the student's outputs no nearer to the teacher's"
REASONS: Final = (NOT_FINITE, NOT_LEAST, NO_GRADIENT, NO_GAIN)
"""Of a rejection, in the order of the questions."""

ZERO: Final = 1e-4
"""Of the loss of a random student, what may be left for an equal one."""
VANISHING: Final = 1e-9
"""Gradient's length times the outputs' spread, over the loss, below which nothing would be learned."""
STEPS: Final = 20
RATE: Final = 0.1
"""Adam's, in standard deviations of the teacher's outputs."""
MIN_GAIN: Final = 0.02
DIGITS: Final = 3
"""Significant digits by which gradients are compared."""
PAIR: Final = "probe"


class Verdict(NamedTuple):
    """What the questions came to."""

    reason: str
    """Of `REASONS`; empty: it is worth a training."""
    signature: str
    """Equal for genomes that teach the same; empty for rejected ones."""


class Screen:
    """Ask the questions of genomes, on probes of each source.

    Raises:
        BadInput: a source without probes; at a call, operations or layers that are not known.
    """

    def __init__(
        self,
        probes: Mapping[LayerNames | None, tuple[Probe, ...]],
        *,
        operations: Operations = OPERATIONS,
    ) -> None:
        if not probes or not all(probes.values()):
            raise BadInput("screen of a search: a source has no probes; give at least one batch")
        self._probes, self._operations = probes, operations

    def __call__(self, genome: Genome) -> Verdict:
        """Return the first reason to reject the genome, or its signature."""
        if genome.layers not in self._probes:
            known = ", ".join(Genome(layers=layers).source for layers in self._probes)
            raise BadInput(f"screen of a search: no probes of {genome.source}; those it has: {known}")
        probes = self._probes[genome.layers]
        loss = build(genome, operations=self._operations)
        loss.pair = PAIR
        gradients: list[Tensor] = []
        for probe in probes:
            reason, gradient = _first_questions(loss, probe)
            if reason:
                return Verdict(reason, "")
            gradients.append(genome.weight * gradient)
        if gain(loss, probes[0]) <= MIN_GAIN:
            return Verdict(NO_GAIN, "")
        return Verdict("", signature(genome.source, gradients))


def gain(loss: SearchedLoss, probe: Probe) -> float:
    """Return by how much some steps of Adam on the student's outputs raise their CKA with the teacher's.

    It is 0 where the loss stops being finite on the way.
    """
    outputs = probe.student.clone().requires_grad_()
    optimizer = torch.optim.Adam([outputs], lr=RATE * float(probe.teacher.std()), eps=1e-30)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(_loss(loss, outputs, probe.teacher))
        optimizer.step()
    if not bool(outputs.isfinite().all()):
        return 0.0
    return float(cka(outputs, probe.teacher) - cka(probe.student, probe.teacher))


def signature(source: str, gradients: list[Tensor]) -> str:
    """Return a short text that is equal for equal gradients, as far as `DIGITS` go.

    Each is rounded in units of its own largest number, which is rounded too and is part of the text: losses
    that differ by a factor learn differently beside the labels' cross entropy, unless their weights make up
    for it.
    """
    digest = hashlib.sha256(source.encode())
    for gradient in gradients:
        largest = float(gradient.abs().max())
        digest.update(f"{largest:.{DIGITS - 1}e}".encode())
        # + 0.0: a negative number that rounds to 0 is -0, with bits of its own
        rounded = (gradient / largest * 10 ** (DIGITS - 1)).round() + 0.0
        digest.update(rounded.to(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _first_questions(loss: SearchedLoss, probe: Probe) -> tuple[str, Tensor]:
    """Ask 1 to 3; return the reason to reject, if any, and the gradient."""
    outputs = probe.student.clone().requires_grad_()
    value = _loss(loss, outputs, probe.teacher)
    if not bool(value.isfinite()):
        return NOT_FINITE, outputs
    with torch.no_grad():
        equal = float(_loss(loss, probe.teacher, probe.teacher))
    size = abs(float(value.detach()))
    # a negated distance would pass question 4: CKA is as high for the teacher's outputs turned around
    if not abs(equal) <= ZERO * size + torch.finfo(torch.float32).eps or float(value.detach()) < equal:
        return NOT_LEAST, outputs
    if not value.requires_grad:
        return NO_GRADIENT, outputs
    (gradient,) = torch.autograd.grad(value, outputs, materialize_grads=True)
    length = float(gradient.norm() * probe.teacher.std())
    if not (bool(gradient.isfinite().all()) and length > VANISHING * size and length > 0.0):
        return NO_GRADIENT, outputs
    return "", gradient


def _loss(loss: SearchedLoss, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the loss of two maps of one shape: as logits where it reads those."""
    value: Tensor = loss(_outputs(loss, student), _outputs(loss, teacher), None)
    return value


def _outputs(loss: SearchedLoss, maps: Tensor) -> Outputs:
    logits = maps.flatten(1)
    return Outputs(logits) if loss.genome.layers is None else Outputs(logits, {PAIR: maps})
