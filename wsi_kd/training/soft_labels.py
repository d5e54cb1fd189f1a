"""Soft labels within a run: which teacher is asked, on which bags, and what range it is normalized by."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.pseudo_labels import AttentionRange, PseudoLabelMode, attention_range, pseudo_labels
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.training.loop import Run, ordered_batches


class RangeMeter:
    """The range of all attention logits it was told."""

    def __init__(self) -> None:
        self._seen: AttentionRange | None = None

    def add(self, attention_logits: Float[Tensor, "instances"]) -> None:
        """Widen the range."""
        self._seen = (
            attention_range(attention_logits) if self._seen is None else self._seen.union(attention_logits)
        )

    @property
    def seen(self) -> AttentionRange:
        """The range so far."""
        if self._seen is None:
            raise ValueError("no attention logits were added yet")
        return self._seen


@torch.no_grad()
def quiet_teacher(run: Run, hidden: Float[Tensor, "instances hidden"], packed: PackedBags) -> BagOutput:
    """Return the teacher's word on whole bags in eval mode, or its moving average's where the run has one.

    `hidden` is the model's projection, shared with the step; the average projects for itself.
    """
    average = run.state.average
    if average is None:
        return _ask(run, hidden, packed.offsets)
    output: BagOutput = average.teacher(average.project(packed.instances), packed.offsets)
    return output


def label_bags(
    quiet: BagOutput,
    packed: PackedBags,
    *,
    mode: PseudoLabelMode,
    floor: float = 0.0,
    global_range: AttentionRange | None,
) -> Float[Tensor, "instances"]:
    """Return the soft labels of packed bags from the teacher's word on them."""
    return pseudo_labels(
        mode,
        attention_logits=quiet.attention_logits,
        evidence_logits=quiet.evidence[:, 1] - quiet.evidence[:, 0],
        offsets=packed.offsets,
        bag_labels=packed.labels,
        floor=floor,
        global_range=global_range,
    )


@torch.no_grad()
def label_all_instances(run: Run, *, mode: PseudoLabelMode, floor: float) -> Float[Tensor, "instances"]:
    """Return the soft label of every training instance, by the teacher in eval mode; on the CPU."""
    attention, evidence = [], []
    for _, packed in ordered_batches(run, run.train):
        with run.autocast():
            quiet = quiet_teacher(run, run.model.project(packed.instances), packed)
        attention.append(quiet.attention_logits.cpu())
        evidence.append((quiet.evidence[:, 1] - quiet.evidence[:, 0]).cpu())
    return pseudo_labels(
        mode,
        attention_logits=torch.cat(attention),
        evidence_logits=torch.cat(evidence),
        offsets=torch.from_numpy(run.train.offsets),
        bag_labels=torch.from_numpy(run.train.labels),
        floor=floor,
    )


@torch.no_grad()
def label_instances(
    run: Run,
    hidden: Float[Tensor, "instances hidden"],
    *,
    positive: Bool[Tensor, "instances"],
    global_range: AttentionRange,
) -> Float[Tensor, "instances"]:
    """Return `minmax_global` labels of instances of any bags, those of negative ones 0.

    They are scored as if each were a bag, so the teacher's attention must not depend on the bag.
    """
    alone = torch.arange(len(hidden) + 1, device=hidden.device)
    packed = PackedBags(hidden, alone, positive.long())
    quiet = _ask(run, hidden, alone)
    return label_bags(quiet, packed, mode="minmax_global", global_range=global_range)


def _ask(
    run: Run, hidden: Float[Tensor, "instances hidden"], offsets: Int64[Tensor, "bags_and_1"]
) -> BagOutput:
    run.model.teacher.eval()
    output: BagOutput = run.model.teacher(hidden.detach(), offsets)
    run.model.teacher.train()
    return output
