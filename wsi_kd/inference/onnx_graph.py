"""A model as a graph of one bag: what `predict_bag` says of a slide, without offsets, for ONNX.

The teachers pool packed bags by segments, which ONNX has no operator for. One bag needs none: here stands the
same formula for all rows at once, each teacher's next to the names of its layers. `predict_bag` is the truth;
an exported file is compared with it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.mil.max_pooling import NO_ATTENTION, positivity
from wsi_kd.mil.weno import TeacherStudent

TWO_CLASSES: Final = 2


class OneBag(NamedTuple):
    """What a teacher says of one bag; as `BagOutput` of a single bag."""

    bag_logits: Float[Tensor, "classes"]
    attention_logits: Float[Tensor, "instances"]
    evidence: Float[Tensor, "instances classes"]


class BagGraph(nn.Module):
    """Features of one bag -> the outputs of `OUTPUTS[part]`, in their order.

    Args:
        model: in eval mode, on the CPU; its teacher is one of `ONE_BAG`.
        teacher: its name, or None where the teacher is left out.
        student: whether the student is shown.
        top_k: tiles that the student's slide probability averages.
    """

    def __init__(self, model: TeacherStudent, *, teacher: str | None, student: bool, top_k: int) -> None:
        super().__init__()
        self.model, self.with_student, self.top_k = model, student, top_k
        self.pool = None if teacher is None else ONE_BAG[teacher]

    def forward(self, features: Float[Tensor, "instances features"]) -> tuple[Tensor, ...]:
        """Score one bag."""
        hidden = self.model.project(features)
        found: tuple[Tensor, ...] = ()
        if self.pool is not None:
            found += _of_teacher(self.pool(self.model.teacher, hidden))
        if self.with_student and self.model.student is not None:
            found += _of_student(self.model.student(hidden), self.top_k)
        return (*found, self.model.spread(self.model.z_scores(features)))


TEACHER_OUTPUTS: Final = ("bag_probability", "attention", "attention_logits", "evidence")
STUDENT_OUTPUTS: Final = (
    "instance_logits",
    "instance_probability",
    "student_max_probability",
    "student_topk_probability",
)
ALWAYS: Final = ("feature_distance",)
OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "teacher": (*TEACHER_OUTPUTS, *ALWAYS),
    "student": (*STUDENT_OUTPUTS, *ALWAYS),
    "both": (*TEACHER_OUTPUTS, *STUDENT_OUTPUTS, *ALWAYS),
}
"""Names of the outputs of each part.

bag_probability (classes); attention, attention_logits (tiles); evidence (tiles, classes - 1); instance_logits
and instance_probability (tiles, classes - 1); student_..._probability (classes); feature_distance (tiles):
the slide's distance is its median.
"""


def _of_teacher(bag: OneBag) -> tuple[Tensor, ...]:
    return (
        torch.softmax(bag.bag_logits, dim=0),
        torch.softmax(bag.attention_logits, dim=0),
        bag.attention_logits,
        torch.softmax(bag.evidence, dim=1)[:, 1:],
    )


def _of_student(logits: Float[Tensor, "instances positives"], top_k: int) -> tuple[Tensor, ...]:
    """Pool the student's logits as `predict_bag` does: class 0 has the logit 0."""
    largest = torch.sort(logits, dim=0, descending=True).values
    pooled = (largest[:1].mean(dim=0), largest[:top_k].mean(dim=0))
    negative = torch.zeros(1)
    slide = tuple(torch.softmax(torch.cat([negative, one]), dim=0) for one in pooled)
    return (logits, torch.sigmoid(logits), *slide)


def _attention(teacher: Any, hidden: Tensor) -> OneBag:
    """Attention-weighted mean of the evidence: abmil, gated_abmil, additive_mil, clam_sb."""
    logits = teacher.attention_head(teacher.attend(hidden)).squeeze(-1)
    evidence = teacher.evidence(hidden)
    return OneBag(torch.softmax(logits, dim=0) @ evidence, logits, evidence)


def _branches(teacher: Any, hidden: Tensor) -> OneBag:
    """Each class by its own attention; shown is the predicted class's branch, of two classes the second's."""
    branches = teacher.attention_head(teacher.attend(hidden))
    evidence = teacher.evidence(hidden)
    bag_logits = (torch.softmax(branches, dim=0) * evidence).sum(dim=0)
    if teacher.classes == TWO_CLASSES:
        return OneBag(bag_logits, branches[:, 1], evidence)
    predicted = bag_logits.argmax(dim=0, keepdim=True)
    return OneBag(bag_logits, branches.index_select(1, predicted).squeeze(1), evidence)


def _dual_stream(teacher: Any, hidden: Tensor) -> OneBag:
    """Attention by likeness to each class's critical instance; the mean of both streams."""
    evidence = teacher.instance_head(hidden)
    critical = evidence.argmax(dim=0)
    queries = teacher.query(hidden)
    logits = queries @ queries[critical].T / math.sqrt(queries.shape[1])
    pooled = torch.softmax(logits, dim=0).T @ hidden
    bag_stream = teacher.bag_head(teacher.value(pooled).flatten().unsqueeze(0)).squeeze(0)
    attention_logits = (logits[:, 1:] if logits.shape[1] > 1 else logits).mean(dim=1)
    return OneBag(0.5 * (evidence.amax(dim=0) + bag_stream), attention_logits, evidence)


def _pseudo_bags(teacher: Any, hidden: Tensor) -> OneBag:
    """Attention within each pseudo-bag, instance r being in r mod G, then over pseudo-bags."""
    groups = torch.arange(teacher.pseudo_bags)
    mine = torch.arange(hidden.shape[0])[:, None] % teacher.pseudo_bags == groups
    logits = teacher.instance_attention(hidden)
    masked = torch.where(mine, logits, -torch.inf)
    filled = mine.any(dim=0)
    largest = torch.where(filled, masked.amax(dim=0), 0.0)
    weights = (masked - largest).exp()
    total = torch.where(filled, weights.sum(dim=0), 1.0)
    embedding = (weights / total).T @ hidden
    second = torch.where(filled, teacher.pseudo_bag_attention(embedding).squeeze(-1), -torch.inf)
    bag_logits = torch.softmax(second, dim=0) @ teacher.bag_head(embedding)
    shift = torch.where(filled, second - largest - total.log(), 0.0)
    attention_logits = logits.squeeze(-1) + torch.where(mine, shift, 0.0).sum(dim=1)
    return OneBag(bag_logits, attention_logits, teacher.bag_head(hidden))


def _mean(teacher: Any, hidden: Tensor) -> OneBag:
    evidence = teacher.bag_head(hidden)
    return OneBag(evidence.mean(dim=0), torch.zeros_like(evidence[:, 0]), evidence)


def _largest(teacher: Any, hidden: Tensor) -> OneBag:
    evidence = teacher.bag_head(hidden)
    chosen = positivity(evidence).argmax(dim=0, keepdim=True)
    here = torch.arange(evidence.shape[0]) == chosen
    attention_logits = torch.where(here, 0.0, NO_ATTENTION)
    return OneBag(evidence.index_select(0, chosen).squeeze(0), attention_logits, evidence)


ONE_BAG: Final[Mapping[str, Callable[[Any, Tensor], OneBag]]] = {
    "abmil": _attention,
    "gated_abmil": _attention,
    "additive_mil": _attention,
    "clam_sb": _attention,
    "clam_mb": _branches,
    "dsmil": _dual_stream,
    "dtfd": _pseudo_bags,
    "mean_pooling": _mean,
    "max_pooling": _largest,
}
"""The teachers that are exported, by their registry name.

Not top_k_pooling, whose ties ONNX breaks otherwise, nor transmil, whose padding follows the number of tiles.
"""
