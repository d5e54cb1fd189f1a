"""One epoch of teacher and student: joint (one step on both losses), alternate, or as released.

`teacher_steps` and `student_steps` take their batches, so that a test can walk them in a fixed order.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from wsi_kd.bags.packing import PackedBags, on_device
from wsi_kd.kd.pseudo_labels import AttentionRange
from wsi_kd.mil.outputs import BagOutput, label_scores
from wsi_kd.mil.pooling import segment_ids, segment_mean
from wsi_kd.mil.projectors import Features
from wsi_kd.training.loop import Run, shuffled_batches, take_step
from wsi_kd.training.losses import (
    LossLedger,
    released_bag_losses,
    released_student_losses,
    teacher_losses,
    teacher_objective,
)
from wsi_kd.training.mining_step import cut, mine, note_hidden, visible_scores
from wsi_kd.training.plan import Distillation, Mining
from wsi_kd.training.ranks import weighed
from wsi_kd.training.soft_labels import (
    RangeMeter,
    label_all_instances,
    label_bags,
    label_instances,
    quiet_teacher,
)
from wsi_kd.training.student_objective import student_objective

BagBatches: TypeAlias = Iterable[tuple[list[int], PackedBags]]
"""Indices of bags in the training part, and the bags."""
Losses: TypeAlias = Callable[..., Tensor]
InstanceLosses: TypeAlias = Callable[["InstanceBatch", Tensor, Tensor], Tensor]
"""Losses of a batch, given it, its projection (without gradient) and the student's logits."""


class InstanceBatch(NamedTuple):
    """Instances of any bags in any order."""

    rows: Int64[Tensor, "instances"]
    """Where they stand in the training part; on the CPU."""
    features: Features


def teacher_epoch(run: Run, ledger: LossLedger, *, mining: Mining | None) -> None:
    """Train teacher and projector on every bag once."""
    teacher_steps(run, ledger, shuffled_batches(run), mining=mining)


def joint_epoch(run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None) -> None:
    """Train all on every bag once: one step a batch on teacher loss + student_weight * student loss.

    `minmax_global` divides by the range of the previous epoch (in the first, of the bags seen so far), which
    costs no pass of its own; hidden instances count in it.
    """
    meter, objective = RangeMeter(run.ranks), student_objective(run, distillation)
    for bags, whole in shuffled_batches(run):
        packed, view = cut(run, whole, bags=bags, mining=mining)
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = mine(run, hidden, packed, mining=mining)
            dropped = run.model.dropout(hidden)
            output: BagOutput = run.model.teacher(dropped, view.packed.offsets, keep)
            instance_logits = run.student(dropped)
        soft = labels = None
        if objective.reads_teacher:
            soft = _label_batch(run, hidden, packed, meter=meter, distillation=distillation)
        if objective.reads_bag_labels:
            labels = packed.labels[segment_ids(packed.offsets, len(instance_logits))]
        students = objective.losses(instance_logits, soft, labels)
        teachers = teacher_losses(output.bag_logits, view.packed.labels)
        ledger.add("teacher loss", teachers, view.bags)
        ledger.add("student loss", segment_mean(students, packed.offsets), bags)
        note_hidden(ledger, keep, packed, bags=bags)
        teacher = teacher_objective(
            teachers,
            run.model.teacher,
            hidden=dropped,
            packed=view.packed,
            keep=keep,
            ledger=ledger,
            bags=view.bags,
        )
        student = weighed(students.mean(), run.ranks.share.instances)
        loss = weighed(teacher, view.share) + distillation.student_weight * student
        take_step(run, loss, ledger, bag=bags[0])
    run.state.attention_range = meter.seen


def _label_batch(
    run: Run, hidden: Tensor, packed: PackedBags, *, meter: RangeMeter, distillation: Distillation
) -> Tensor:
    """Return the teacher's soft labels of whole bags; `meter` learns the range of its attention."""
    with run.autocast():
        quiet = quiet_teacher(run, hidden, packed, mode=distillation.pseudo_label)
    if quiet.attention_logits is not None:
        meter.add(quiet.attention_logits)
    return label_bags(
        quiet,
        packed,
        mode=distillation.pseudo_label,
        floor=distillation.label_floor,
        global_range=run.state.attention_range or meter.seen,
    )


def alternate_epoch(
    run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None
) -> None:
    """Train the teacher on every bag once, then the student on every instance once in a new order.

    The labels of all instances are made in one pass over whole bags by the teacher as it stands after its
    epoch, so that teachers whose scores depend on the rest of the bag can serve as well.
    """
    teacher_epoch(run, ledger, mining=mining)
    objective, mode = student_objective(run, distillation), distillation.pseudo_label
    soft_labels = (
        label_all_instances(run, mode=mode, floor=distillation.label_floor)
        if objective.reads_teacher
        else None
    )
    labels = torch.from_numpy(run.train.labels)[instance_bags(run)]

    def losses_of(batch: InstanceBatch, hidden: Tensor, logits: Tensor) -> Tensor:
        soft = None if soft_labels is None else soft_labels[batch.rows].to(hidden.device)
        return objective.losses(logits, soft, labels[batch.rows].to(hidden.device))

    student_steps(run, ledger, shuffled_instances(run, distillation.instance_batch), losses_of=losses_of)


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

    The losses are `released_bag_losses` and `released_student_losses`. Labels are made anew for each batch of
    instances, normalized by the range of the attention (`label_scores`) that the teacher gave in its own
    epoch, while it changed, to the instances that mining left it. Only for teachers that score an instance
    without its bag.
    """
    meter = RangeMeter(run.ranks)
    bag_losses = released_bag_losses(run.model.teacher)
    teacher_steps(run, ledger, bag_batches, mining=mining, losses_of=bag_losses, on_attention=meter.add)
    seen = meter.seen
    if seen is None:
        raise ValueError("labels are normalized by the attention of bags, and there were none")
    labels = torch.from_numpy(run.train.labels)[instance_bags(run)]

    def losses_of(batch: InstanceBatch, hidden: Tensor, logits: Tensor) -> Tensor:
        soft = label_instances(run, hidden, labels=labels[batch.rows].to(hidden.device), global_range=seen)
        return released_student_losses(logits, soft, negative_weight=negative_weight)

    student_steps(run, ledger, instance_batches, losses_of=losses_of)
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
    for bags, whole in batches:
        packed, view = cut(run, whole, bags=bags, mining=mining)
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = mine(run, hidden, packed, mining=mining)
            dropped = run.model.dropout(hidden)
            output: BagOutput = run.model.teacher(dropped, view.packed.offsets, keep)
        if on_attention is not None:
            scores = label_scores(run.model.teacher, output)
            on_attention(scores if keep is None else visible_scores(scores, keep))
        losses = losses_of(output.bag_logits, view.packed.labels)
        ledger.add("teacher loss", losses, view.bags)
        note_hidden(ledger, keep, packed, bags=bags)
        objective = teacher_objective(
            losses,
            run.model.teacher,
            hidden=dropped,
            packed=view.packed,
            keep=keep,
            ledger=ledger,
            bags=view.bags,
        )
        take_step(run, weighed(objective, view.share), ledger, bag=bags[0])


def student_steps(
    run: Run,
    ledger: LossLedger,
    batches: Iterable[InstanceBatch],
    *,
    losses_of: InstanceLosses,
) -> None:
    """Step on the student's loss once a batch."""
    bags = instance_bags(run)
    for batch in batches:
        with run.autocast():
            hidden = run.model.project(batch.features)
            logits = run.student(run.model.dropout(hidden))
            losses = losses_of(batch, hidden.detach(), logits)
        ledger.add("student loss", losses, bags[batch.rows].tolist())
        loss = weighed(losses.mean(), run.ranks.share.instances)
        take_step(run, loss, ledger, bag=int(bags[batch.rows[0]]))


def shuffled_instances(run: Run, instance_batch: int) -> Iterator[InstanceBatch]:
    """Yield the training instances once, in a new order across all bags, on the device; this process's."""
    order = torch.randperm(len(run.train.features), generator=run.state.generator)
    for start in range(0, len(order), instance_batch):
        rows = order[start : start + instance_batch]
        rows = rows[run.ranks.take_rows(len(rows))]
        run.draw_for_whole()
        features = on_device(run.train.features[rows.numpy()], device=run.device, dtype=torch.float32)
        yield InstanceBatch(rows, features)


def instance_bags(run: Run) -> Int64[Tensor, "instances"]:
    """Return the bag index of every training instance; on the CPU."""
    return segment_ids(torch.from_numpy(run.train.offsets), len(run.train.features))
