"""Soft labels within a run: which teacher is asked, on which bags, and what range it is normalized by."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.pseudo_labels import AttentionRange, PseudoLabelMode, attention_range, pseudo_labels
from wsi_kd.mil.outputs import BagOutput, EvidenceTeacher, label_scores
from wsi_kd.training.loop import Run, ordered_batches
from wsi_kd.training.ranks import Ranks


class TeacherWord(NamedTuple):
    """What soft labels are made of."""

    attention_logits: Float[Tensor, "instances *classes"] | None
    """One an instance, or one a class; see `label_scores`. None where labels are made without."""
    evidence: Float[Tensor, "instances classes"]


class RangeMeter:
    """The range of all attention logits it was told."""

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self._seen: AttentionRange | None = None

    def add(self, attention_logits: Float[Tensor, "instances *classes"]) -> None:
        """Widen the range, by what all processes add."""
        found = attention_range(attention_logits)
        if self._ranks.count > 1:
            low, high = self._ranks.lowest(torch.stack([found.low, -found.high])).unbind()
            found = AttentionRange(low, -high)
        self._seen = found if self._seen is None else self._seen.union(torch.stack([*found]))

    @property
    def seen(self) -> AttentionRange | None:
        """The range so far; None before any."""
        return self._seen


@torch.no_grad()
def quiet_teacher(
    run: Run,
    hidden: Float[Tensor, "instances hidden"] | None,
    packed: PackedBags,
    *,
    mode: PseudoLabelMode,
) -> TeacherWord:
    """Return the teacher's word on whole bags in eval mode, or its moving average's where the run has one.

    `hidden` is the model's projection where the step has it at hand; the average projects for itself, so that
    without a step there is one projection either way. A teacher that can is asked for no more than `mode`
    reads.
    """
    model = run.state.average or run.model
    shared = hidden if model is run.model else None
    projected = model.project(packed.instances) if shared is None else shared.detach()
    return _ask(model.teacher, projected, packed.offsets, mode=mode)


def label_bags(
    quiet: TeacherWord,
    packed: PackedBags,
    *,
    mode: PseudoLabelMode,
    floor: float = 0.0,
    global_range: AttentionRange | None,
) -> Float[Tensor, "instances positives"]:
    """Return the soft labels of packed bags from the teacher's word on them."""
    return pseudo_labels(
        mode,
        attention_logits=quiet.attention_logits,
        evidence=quiet.evidence,
        offsets=packed.offsets,
        bag_labels=packed.labels,
        floor=floor,
        global_range=global_range,
    )


@torch.no_grad()
def label_all_instances(
    run: Run, *, mode: PseudoLabelMode, floor: float
) -> Float[Tensor, "instances positives"]:
    """Return the soft labels of every training instance, by the teacher in eval mode; on the CPU."""
    attention, evidence = [], []
    sizes = np.diff(run.train.offsets)
    own = run.ranks.own_bags(sizes.tolist())
    for _, packed in ordered_batches(run, run.train, own or [0]):
        with run.autocast():
            quiet = quiet_teacher(run, None, packed, mode=mode)
        evidence.append(quiet.evidence.cpu())
        if quiet.attention_logits is not None:
            attention.append(quiet.attention_logits.cpu())

    def of_all_bags(rows: list[Tensor]) -> Tensor:
        return run.ranks.end_to_end(torch.cat(rows), bags=own, lengths=sizes[own].tolist())

    return pseudo_labels(
        mode,
        attention_logits=of_all_bags(attention) if attention else None,
        evidence=of_all_bags(evidence),
        offsets=torch.from_numpy(run.train.offsets),
        bag_labels=torch.from_numpy(run.train.labels),
        floor=floor,
    )


@torch.no_grad()
def label_instances(
    run: Run,
    hidden: Float[Tensor, "instances hidden"],
    *,
    labels: Int64[Tensor, "instances"],
    global_range: AttentionRange,
) -> Float[Tensor, "instances positives"]:
    """Return `minmax_global` labels of instances of any bags, given the label of each one's bag.

    They are scored as if each were a bag, so the teacher's attention must not depend on the bag.
    """
    alone = torch.arange(len(hidden) + 1, device=hidden.device)
    packed = PackedBags(hidden, alone, labels)
    quiet = _ask(run.model.teacher, hidden.detach(), alone, mode="minmax_global")
    return label_bags(quiet, packed, mode="minmax_global", global_range=global_range)


def _ask(
    teacher: nn.Module,
    hidden: Float[Tensor, "instances hidden"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    mode: PseudoLabelMode,
) -> TeacherWord:
    learning = teacher.training
    teacher.eval()
    if mode == "evidence" and isinstance(teacher, EvidenceTeacher):
        word = TeacherWord(None, teacher.evidence(hidden))
    else:
        output: BagOutput = teacher(hidden, offsets)
        word = TeacherWord(label_scores(teacher, output), output.evidence)
    teacher.train(learning)
    return word
