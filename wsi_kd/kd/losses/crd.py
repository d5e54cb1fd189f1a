"""Contrastive representation distillation: a sample's own counterpart against many others out of a memory.

    u = unit(W_s s), v = unit(W_t t);  e(a, b) = exp(a . b / tau) / Z
    h(a, b) = e(a, b) / (e(a, b) + N / M),  N negatives of M remembered samples
    loss = mean over the samples of  - log h(u_i, v_i) - sum over negatives k of log (1 - h(u_i, v_k))
                                     - log h(v_i, u_i) - sum over negatives k of log (1 - h(v_i, u_k))

the binary noise-contrastive estimator of the paper (its equations 17 to 19), with what is not the anchor held
constant and Z, one a side, M times the mean of exp(a . b / tau) over the first batch. Negatives are of
other classes where labels are known.

The memory is a queue of the last M samples' embeddings, the batch's others included. The released code
holds one embedding for each sample of the training set instead, found by the sample's index and moved by a
momentum of 0.5, and draws 16,384 of them; a queue needs no index, so that any loader will do, and with M
below the data's size a sample hardly ever meets its own past. A batch of one sample with nothing remembered
gives 0.

Source: Tian, Krishnan, Isola, "Contrastive representation distillation", ICLR 2020 (arXiv 1910.10699):
embeddings of 128 numbers, tau 0.07.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import require_positive
from wsi_kd.kd.losses.projections import EmbeddedLoss
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import Outputs

UNKNOWN = -1
"""Label of a remembered sample that had none."""


class Others(NamedTuple):
    """What a batch's samples are contrasted with."""

    student: Float[Tensor, "others width"]
    teacher: Float[Tensor, "others width"]
    negative: Bool[Tensor, "samples others"]
    """Which of them are negatives of which sample."""


def noise_contrast(
    anchors: Float[Tensor, "samples width"],
    own: Float[Tensor, "samples width"],
    others: Float[Tensor, "others width"],
    *,
    negative: Bool[Tensor, "samples others"],
    memory: int,
    log_normalizer: Tensor,
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the estimator of one side, mean over the samples.

    >>> two, apart = torch.eye(2), ~torch.eye(2, dtype=torch.bool)
    >>> one = {"memory": 1, "log_normalizer": torch.tensor(1.0), "temperature": 1.0}
    >>> loss = noise_contrast(two, two, two, negative=apart, **one)  # its own: e = 1, h = 1 / 2
    >>> round(loss.item(), 4)  # log 2 + log (1 + 1 / e)
    1.0064
    """
    noise = negative.sum(dim=1) / memory
    # in logs: -log h = softplus(-l), -log (1 - h) = softplus(l) with l = a . b / tau - log Z - log (N / M)
    shift = log_normalizer + noise.clamp(min=torch.finfo(noise.dtype).tiny).log()
    near = (anchors * own).sum(dim=1) / temperature - shift
    far = anchors @ others.T / temperature - shift[:, None]
    losses = torch.nn.functional.softplus(-near)
    losses = losses + (torch.nn.functional.softplus(far) * negative).sum(dim=1)
    return (losses * (noise > 0)).mean()


class CrdLoss(EmbeddedLoss):
    """Noise contrast with a memory of the last samples, of other classes where labels are known."""

    def __init__(self, *, width: int = 128, temperature: float = 0.07, memory: int = 4096) -> None:
        super().__init__(width=width)
        require_positive(self, temperature=temperature, memory=memory)
        self.temperature = temperature
        self.memory = memory
        self.student_memory: Tensor
        self.teacher_memory: Tensor
        self.memory_labels: Tensor
        self.remembered: Tensor
        self.log_normalizers: Tensor
        self.normalized: Tensor
        self.register_buffer("student_memory", torch.zeros(memory, width))
        self.register_buffer("teacher_memory", torch.zeros(memory, width))
        self.register_buffer("memory_labels", torch.full((memory,), UNKNOWN))
        self.register_buffer("remembered", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_normalizers", torch.zeros(2))
        self.register_buffer("normalized", torch.zeros((), dtype=torch.bool))

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples; in training mode the batch is remembered afterwards."""
        ours, theirs = (unit(side, dim=1) for side in self.embedded(student, teacher))
        classes = _classes(labels, samples=len(ours), device=ours.device)
        others = self._others(ours.detach(), theirs.detach(), classes)
        self._normalize(ours.detach(), theirs.detach(), others)
        sides = ((ours, theirs.detach(), others.teacher), (theirs, ours.detach(), others.student))
        losses = [
            noise_contrast(
                anchors,
                own,
                contrasted,
                negative=others.negative,
                memory=max(len(contrasted), 1),
                log_normalizer=self.log_normalizers[side].to(anchors.dtype),
                temperature=self.temperature,
            )
            for side, (anchors, own, contrasted) in enumerate(sides)
        ]
        if self.training:
            self._remember(ours.detach(), theirs.detach(), classes)
        return torch.stack(losses).sum()

    def _others(self, ours: Tensor, theirs: Tensor, classes: Tensor) -> Others:
        """Return what is remembered, and the batch itself."""
        filled = int(self.remembered.clamp(max=self.memory))
        labels = torch.cat([self.memory_labels[:filled], classes])
        known = (labels[None, :] != UNKNOWN) & (classes[:, None] != UNKNOWN)
        same = known & (labels[None, :] == classes[:, None])
        same[:, filled:] |= torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        return Others(
            torch.cat([self.student_memory[:filled].to(ours.dtype), ours]),
            torch.cat([self.teacher_memory[:filled].to(theirs.dtype), theirs]),
            ~same,
        )

    @torch.no_grad()
    def _normalize(self, ours: Tensor, theirs: Tensor, others: Others) -> None:
        """Estimate log Z of both sides from the first batch that has negatives."""
        if bool(self.normalized) or not bool(others.negative.any()):
            return
        pairs = int(others.negative.sum())
        for side, (anchors, contrasted) in enumerate(((ours, others.teacher), (theirs, others.student))):
            values = (anchors @ contrasted.T / self.temperature)[others.negative]
            self.log_normalizers[side] = values.logsumexp(dim=0) + math.log(len(contrasted) / pairs)
        self.normalized.fill_(value=True)

    @torch.no_grad()
    def _remember(self, ours: Tensor, theirs: Tensor, classes: Tensor) -> None:
        rows = (self.remembered + torch.arange(len(ours), device=ours.device)) % self.memory
        kept = slice(max(len(ours) - self.memory, 0), None)  # of a batch larger than the memory its end
        self.student_memory[rows[kept]] = ours[kept].to(self.student_memory.dtype)
        self.teacher_memory[rows[kept]] = theirs[kept].to(self.teacher_memory.dtype)
        self.memory_labels[rows[kept]] = classes[kept]
        self.remembered += len(ours)


def _classes(labels: Tensor | None, *, samples: int, device: torch.device) -> Tensor:
    """Return (samples,) classes; of soft labels the likeliest; UNKNOWN where there are none."""
    if labels is None:
        return torch.full((samples,), UNKNOWN, device=device)
    return (labels.argmax(dim=1) if labels.is_floating_point() else labels).to(device)
