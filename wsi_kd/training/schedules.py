"""One epoch of teacher and student: joint (one step on both losses) or alternate (teacher, then student)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.mining import mine_hard_positives
from wsi_kd.kd.pseudo_labels import AttentionRange, attention_range, pseudo_labels
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import segment_ids, segment_mean
from wsi_kd.training.loop import Run, ordered_batches, shuffled_batches, take_step
from wsi_kd.training.losses import LossLedger, student_losses, teacher_losses
from wsi_kd.training.plan import Distillation, Mining


def teacher_epoch(run: Run, ledger: LossLedger, *, mining: Mining | None) -> None:
    """Train teacher and projector on every bag once."""
    for bags, packed in shuffled_batches(run):
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = _mine(run, hidden, packed, mining=mining)
            output: BagOutput = run.model.teacher(run.model.dropout(hidden), packed.offsets, keep)
        losses = teacher_losses(output.bag_logits, packed.labels)
        ledger.add("teacher loss", losses, bags)
        _note_hidden(ledger, keep, packed, bags=bags)
        take_step(run, losses.mean(), ledger, bag=bags[0])


def joint_epoch(run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None) -> None:
    """Train all on every bag once: one step a batch on teacher loss + student_weight * student loss.

    `minmax_global` divides by the range of the previous epoch (in the first, of the bags seen so far), which
    costs no pass of its own; hidden instances count in it.
    """
    seen: AttentionRange | None = None
    for bags, packed in shuffled_batches(run):
        with run.autocast():
            hidden = run.model.project(packed.instances)
            keep = _mine(run, hidden, packed, mining=mining)
            dropped = run.model.dropout(hidden)
            output: BagOutput = run.model.teacher(dropped, packed.offsets, keep)
            instance_logits = run.student(dropped)
            quiet = _quiet_teacher(run, hidden, packed)
        attention = quiet.attention_logits
        seen = attention_range(attention) if seen is None else seen.union(attention)
        soft = _soft_labels(quiet, packed, distillation, global_range=run.state.attention_range or seen)
        students = student_losses(instance_logits, soft, negative_weight=distillation.negative_weight)
        teachers = teacher_losses(output.bag_logits, packed.labels)
        ledger.add("teacher loss", teachers, bags)
        ledger.add("student loss", segment_mean(students, packed.offsets), bags)
        _note_hidden(ledger, keep, packed, bags=bags)
        loss = teachers.mean() + distillation.student_weight * students.mean()
        take_step(run, loss, ledger, bag=bags[0])
    run.state.attention_range = seen


def alternate_epoch(
    run: Run, ledger: LossLedger, *, distillation: Distillation, mining: Mining | None
) -> None:
    """Train the teacher on every bag once, then the student on every instance once in a new order.

    The labels of all instances are made in one pass over whole bags by the teacher as it stands after its
    epoch, so that teachers whose scores depend on the rest of the bag can serve as well.
    """
    teacher_epoch(run, ledger, mining=mining)
    soft_labels = label_all_instances(run, distillation)
    bags = segment_ids(torch.from_numpy(run.train.offsets), len(soft_labels))
    order = torch.randperm(len(soft_labels), generator=run.state.generator)
    for start in range(0, len(order), distillation.instance_batch):
        rows = order[start : start + distillation.instance_batch]
        features = torch.from_numpy(run.train.features[rows.numpy()]).to(run.device).float()
        with run.autocast():
            logits = run.student(run.model.dropout(run.model.project(features)))
        soft = soft_labels[rows].to(run.device)
        losses = student_losses(logits, soft, negative_weight=distillation.negative_weight)
        ledger.add("student loss", losses, bags[rows].tolist())
        take_step(run, losses.mean(), ledger, bag=int(bags[rows[0]]))


@torch.no_grad()
def label_all_instances(run: Run, distillation: Distillation) -> Float[Tensor, "instances"]:
    """Return the soft label of every training instance, by the teacher in eval mode; on the CPU."""
    attention, evidence = [], []
    for _, packed in ordered_batches(run, run.train):
        with run.autocast():
            quiet = _quiet_teacher(run, run.model.project(packed.instances), packed)
        attention.append(quiet.attention_logits.cpu())
        evidence.append((quiet.evidence[:, 1] - quiet.evidence[:, 0]).cpu())
    return pseudo_labels(
        distillation.pseudo_label,
        attention_logits=torch.cat(attention),
        evidence_logits=torch.cat(evidence),
        offsets=torch.from_numpy(run.train.offsets),
        bag_labels=torch.from_numpy(run.train.labels),
    )


@torch.no_grad()
def _quiet_teacher(run: Run, hidden: Float[Tensor, "instances hidden"], packed: PackedBags) -> BagOutput:
    """Return the teacher's word on whole bags in eval mode; the projection is shared with the step."""
    run.model.teacher.eval()
    output: BagOutput = run.model.teacher(hidden.detach(), packed.offsets)
    run.model.teacher.train()
    return output


def _soft_labels(
    quiet: BagOutput, packed: PackedBags, distillation: Distillation, *, global_range: AttentionRange
) -> Float[Tensor, "instances"]:
    return pseudo_labels(
        distillation.pseudo_label,
        attention_logits=quiet.attention_logits,
        evidence_logits=quiet.evidence[:, 1] - quiet.evidence[:, 0],
        offsets=packed.offsets,
        bag_labels=packed.labels,
        global_range=global_range,
    )


@torch.no_grad()
def _mine(
    run: Run, hidden: Float[Tensor, "instances hidden"], packed: PackedBags, *, mining: Mining | None
) -> Bool[Tensor, "instances"] | None:
    """Ask the student, without dropout, which instances the teacher may see."""
    if mining is None:
        return None
    return mine_hard_positives(
        run.student(hidden.detach()),
        packed.offsets,
        packed.labels,
        threshold=mining.threshold,
        drop_probability=mining.drop_probability,
        max_drop_fraction=mining.max_drop_fraction,
        symmetric=mining.symmetric,
        generator=run.state.generator,
    )


def _note_hidden(
    ledger: LossLedger, keep: Bool[Tensor, "instances"] | None, packed: PackedBags, *, bags: list[int]
) -> None:
    if keep is not None:
        ledger.add("hidden fraction", segment_mean((~keep).float(), packed.offsets), bags)
