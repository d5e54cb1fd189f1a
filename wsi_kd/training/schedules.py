"""One epoch of teacher and student: joint (one step on both losses), alternate (teacher, then student), released.

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
        soft = label_bags(quiet, packed, mode=distillation.pseudo_label, global_range=global_range)
        students = student_losses(instance_logits, soft, negative_weight=distillation.negative_weight)
        teachers = teacher_losses(output.bag_logits, packed.labels)
        ledger.add("teacher loss", teachers, bags)
        ledger.add("student loss", segment_mean(students, packed.offsets), bags)
        note_hidden(ledger, keep, packed, bags=bags)
        loss = teachers.mean() + distillation.student_weight * students.mean()
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
    soft_labels = label_all_instances(run, distillation.pseudo_label)

    def label(batch: InstanceBatch, hidden: Tensor) -> Tensor:
        return soft_labels[batch.rows].to(hidden.device)

    batches = shuffled_instances(run, distillation.instance_batch)
    student_steps(run, ledger, batches, label=label, negative_weight=distillation.negative_weight)


def released_epoch(
    run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None
) -> None:
    """Train as `alternate_epoch`, with the released code's details.

    1e-5 stands in every log. Labels are made anew for each batch of instances, normalized by the range of
    the attention that the teacher gave in its own epoch, while it changed, to the instances that mining left.
    Only for teachers that score an instance without its bag.
    """
    batches = (shuffled_batches(run), shuffled_instances(run, distillation.instance_batch))
    released_steps(run, ledger, *batches, negative_weight=distillation.negative_weight, mining=mining)


def released_steps(
    run: Run,
    ledger: LossLedger,
    bag_batches: Iterable[tuple[list[int], PackedBags]],
    /,
    instance_batches: Iterable[InstanceBatch],
    *,
    negative_weight: float,
    mining: Mining | None,
) -> AttentionRange:
    """Take the steps of `released_epoch` in the order given; return the range of the attention logits."""
    meter = RangeMeter()
    teacher_steps(
        run, ledger, bag_batches, mining=mining, losses_of=released_teacher_losses, on_attention=meter.add
    )
    positive = bag_of_instances(run, labels=True)

    def label(batch: InstanceBatch, hidden: Tensor) -> Tensor:
        return label_instances(run, hidden, positive[batch.rows], global_range=meter.seen)

    student_steps(
        run,
        ledger,
        instance_batches,
        label=label,
        negative_weight=negative_weight,
        losses_of=released_student_losses,
    )
    return meter.seen
