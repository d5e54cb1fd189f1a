"""One epoch of teacher and student: joint (one step on both losses), alternate, or as released.

`teacher_steps` and `student_steps` take their batches, so that a test can walk them in a fixed order.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.pseudo_labels import AttentionRange
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import segment_ids, segment_mean
from wsi_kd.training.loop import Run, shuffled_batches, take_step
from wsi_kd.training.losses import (
    LossLedger,
    released_student_losses,
    released_teacher_losses,
    student_losses,
    teacher_losses,
    teacher_objective,
)
from wsi_kd.training.mining_step import mine, note_hidden
from wsi_kd.training.plan import Distillation, Mining
from wsi_kd.training.soft_labels import (
    RangeMeter,
    label_all_instances,
    label_bags,
    label_instances,
    quiet_teacher,
)

BagBatches: TypeAlias = Iterable[tuple[list[int], PackedBags]]
"""Indices of bags in the training part, and the bags."""
Losses: TypeAlias = Callable[..., Tensor]
Label: TypeAlias = Callable[["InstanceBatch", Tensor], Tensor]
"""Soft labels of a batch, given it and its projection."""


class InstanceBatch(NamedTuple):
    """Instances of any bags in any order."""

    rows: Int64[Tensor, "instances"]
    """Where they stand in the training part; on the CPU."""
    features: Float[Tensor, "instances features"]


def teacher_epoch(run: Run, ledger: LossLedger, *, mining: Mining | None) -> None:
    """Train teacher and projector on every bag once."""
    teacher_steps(run, ledger, shuffled_batches(run), mining=mining)


def joint_epoch(run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None) -> None:
    """Train all on every bag once: one step a batch on teacher loss + student_weight * student loss.

    `minmax_global` divides by the range of the previous epoch (in the first, of the bags seen so far), which
    costs no pass of its own; hidden instances count in it.
    """
    meter = RangeMeter()
    for bags, packed in shuffled_batches(run):
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = mine(run, hidden, packed, mining=mining)
            dropped = run.model.dropout(hidden)
            output: BagOutput = run.model.teacher(dropped, packed.offsets, keep)
            instance_logits = run.student(dropped)
            quiet = quiet_teacher(run, hidden, packed)
        meter.add(quiet.attention_logits)
        global_range = run.state.attention_range or meter.seen
        soft = label_bags(
            quiet,
            packed,
            mode=distillation.pseudo_label,
            floor=distillation.label_floor,
            global_range=global_range,
        )
        students = student_losses(instance_logits, soft, negative_weight=distillation.negative_weight)
        teachers = teacher_losses(output.bag_logits, packed.labels)
        ledger.add("teacher loss", teachers, bags)
        ledger.add("student loss", segment_mean(students, packed.offsets), bags)
        note_hidden(ledger, keep, packed, bags=bags)
        teacher = teacher_objective(teachers, run.model.teacher, hidden=dropped, packed=packed, keep=keep)
        loss = teacher + distillation.student_weight * students.mean()
        take_step(run, loss, ledger, bag=bags[0])
    run.state.attention_range = meter.seen


def alternate_epoch(
    run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None
) -> None:
    """Train the teacher on every bag once, then the student on every instance once in a new order.

    The labels of all instances are made in one pass over whole bags by the teacher as it stands after its
    epoch, so that teachers whose scores depend on the rest of the bag can serve as well.
    """
    teacher_epoch(run, ledger, mining=mining)
    soft_labels = label_all_instances(run, mode=distillation.pseudo_label, floor=distillation.label_floor)

    def label(batch: InstanceBatch, hidden: Tensor) -> Tensor:
        return soft_labels[batch.rows].to(hidden.device)

    batches = shuffled_instances(run, distillation.instance_batch)
    student_steps(run, ledger, batches, label=label, negative_weight=distillation.negative_weight)


def released_epoch(
    run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None
) -> None:
    """Train as `alternate_epoch`, with the released code's details; see `released_steps`."""
    released_steps(
        run,
        ledger,
        bag_batches=shuffled_batches(run),
        instance_batches=shuffled_instances(run, distillation.instance_batch),
        negative_weight=distillation.negative_weight,
        mining=mining,
    )


def released_steps(
    run: Run,
    ledger: LossLedger,
    *,
    bag_batches: BagBatches,
    instance_batches: Iterable[InstanceBatch],
    negative_weight: float,
    mining: Mining | None,
) -> AttentionRange:
    """Step on bags, then on instances, in the order given; return the range that normalized the labels.

    1e-5 stands in every log. Labels are made anew for each batch of instances, normalized by the range of
    the attention that the teacher gave in its own epoch, while it changed, to the instances that mining left
    it. Only for teachers that score an instance without its bag.
    """
    meter = RangeMeter()
    teacher_steps(
        run, ledger, bag_batches, mining=mining, losses_of=released_teacher_losses, on_attention=meter.add
    )
    seen = meter.seen
    positive = torch.from_numpy(run.train.labels)[instance_bags(run)] == 1

    def label(batch: InstanceBatch, hidden: Tensor) -> Tensor:
        among_positive = positive[batch.rows].to(hidden.device)
        return label_instances(run, hidden, positive=among_positive, global_range=seen)

    student_steps(
        run,
        ledger,
        instance_batches,
        label=label,
        negative_weight=negative_weight,
        losses_of=released_student_losses,
    )
    return seen


def teacher_steps(
    run: Run,
    ledger: LossLedger,
    batches: BagBatches,
    *,
    mining: Mining | None,
    losses_of: Losses = teacher_losses,
    on_attention: Callable[[Tensor], None] | None = None,
) -> None:
    """Step on the teacher's loss once a batch; `on_attention` is told the logits of visible instances."""
    for bags, packed in batches:
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = mine(run, hidden, packed, mining=mining)
            dropped = run.model.dropout(hidden)
            output: BagOutput = run.model.teacher(dropped, packed.offsets, keep)
        if on_attention is not None:
            on_attention(output.attention_logits if keep is None else output.attention_logits[keep])
        losses = losses_of(output.bag_logits, packed.labels)
        ledger.add("teacher loss", losses, bags)
        note_hidden(ledger, keep, packed, bags=bags)
        loss = teacher_objective(losses, run.model.teacher, hidden=dropped, packed=packed, keep=keep)
        take_step(run, loss, ledger, bag=bags[0])


def student_steps(
    run: Run,
    ledger: LossLedger,
    batches: Iterable[InstanceBatch],
    *,
    label: Label,
    negative_weight: float,
    losses_of: Losses = student_losses,
) -> None:
    """Step on the student's loss once a batch, against the labels that `label` gives."""
    bags = instance_bags(run)
    for batch in batches:
        with run.autocast():
            hidden = run.model.project(batch.features)
            soft = label(batch, hidden.detach())
            logits = run.student(run.model.dropout(hidden))
        losses = losses_of(logits, soft, negative_weight=negative_weight)
        ledger.add("student loss", losses, bags[batch.rows].tolist())
        take_step(run, losses.mean(), ledger, bag=int(bags[batch.rows[0]]))


def shuffled_instances(run: Run, instance_batch: int) -> Iterator[InstanceBatch]:
    """Yield the training instances once, in a new order across all bags, on the device."""
    order = torch.randperm(len(run.train.features), generator=run.state.generator)
    for start in range(0, len(order), instance_batch):
        rows = order[start : start + instance_batch]
        features = torch.from_numpy(run.train.features[rows.numpy()]).to(run.device).float()
        yield InstanceBatch(rows, features)


def instance_bags(run: Run) -> Int64[Tensor, "instances"]:
    """Return the bag index of every training instance; on the CPU."""
    return segment_ids(torch.from_numpy(run.train.offsets), len(run.train.features))
