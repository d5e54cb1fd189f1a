"""Recipe weno: a bag teacher and an instance student on one projector (Qu et al., NeurIPS 2022).

The teacher learns from bag labels. Its word on each instance becomes the student's soft label of the bag's
class, 0 in negative bags and for all other classes. Both losses train the shared projector. Optionally the
student hides from the teacher what it already finds easy.
"""

from pathlib import Path
from typing import Final

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import content_hash
from wsi_kd.training.bag_checks import bags_hash
from wsi_kd.training.distillation_checks import check_distillation
from wsi_kd.training.loop import EpochResult, OnEpoch, Run, Trained, fit, start_run, validate
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.mining_guard import guard_mining
from wsi_kd.training.plan import Architecture, Distillation, Mining, Optimization
from wsi_kd.training.schedules import alternate_epoch, joint_epoch, released_epoch, teacher_epoch
from wsi_kd.training.state import HistoryRow
from wsi_kd.training.student_objective import student_objective
from wsi_kd.training.validation import Validation

COUNTED_INSTANCES: Final = 100
"""Instances of one bag repeat each other: in the choice of the epoch a bag counts as no more than these."""
SCHEDULES: Final = {"joint": joint_epoch, "alternate": alternate_epoch, "released": released_epoch}


def train_weno(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    distillation: Distillation,
    mining: Mining | None,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train teacher and student; selected is the epoch of the lowest sum of both losses on `val`.

    The sum is the teacher's cross entropy of the bag and the student's ranking loss of its pooled logits,
    on whole bags, from the end of the warm-up on; where the student learns from bag labels, also
    `bag_label_share` times its loss on them, a bag counting as at most `COUNTED_INSTANCES` instances.
    `mining` None hides nothing. `work_dir` holds the state of an unfinished run: called again with the same
    arguments, training goes on there.

    Raises:
        BadInput: bags that cannot be trained on, a teacher that cannot make these labels, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    check_distillation(architecture.teacher, distillation, classes=classes)
    plan = {"recipe": "weno", **architecture._asdict(), **optimization._asdict(), **distillation._asdict()}
    facts = {**plan, "classes": classes, "mining": mining and mining._asdict(), "bags": bags_hash(train, val)}
    with start_run(
        train,
        val,
        classes=classes,
        architecture=architecture,
        optimization=optimization,
        with_student=True,
        teacher_average=distillation.teacher_average,
    ) as run:
        objective = student_objective(run, distillation)
        instance_losses = objective.on_bag_labels if objective.reads_bag_labels else None

        def train_epoch(epoch: int) -> EpochResult:
            mines = mining is not None and epoch >= mining.start_epoch and not run.state.mining_stopped
            ledger = LossLedger(train.slide_ids, run.ranks)
            _learn(run, ledger, epoch=epoch, distillation=distillation, mining=mining if mines else None)
            ledger.check(epoch)
            scores = validate(
                run,
                student_pooling=distillation.student_pooling,
                top_k=distillation.top_k,
                instance_losses=instance_losses,
            )
            warning = guard_mining(run.state, scores, mining) if mining is not None and mines else ""
            selectable = epoch >= distillation.warm_up_epochs and not warning
            loss = _selection_loss(scores, val, share=distillation.bag_label_share)
            told: HistoryRow = {"selection_loss": loss, "mining": int(mines), "warning": warning}
            row = _row(epoch, ledger, scores) | told
            return EpochResult(row, selection_loss=loss if selectable else None)

        run_hash = content_hash(facts)
        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)


def _learn(
    run: Run, ledger: LossLedger, *, epoch: int, distillation: Distillation, mining: Mining | None
) -> None:
    if epoch < distillation.warm_up_epochs:
        teacher_epoch(run, ledger, mining=mining)
    else:
        SCHEDULES[distillation.schedule](run, ledger, distillation=distillation, mining=mining)


def _selection_loss(scores: Validation, val: BagSet, *, share: float) -> float:
    """Return the sum of the losses of a bag; that of its instances is their mean x how many they count as."""
    counted = min(len(val.features) / len(val.labels), COUNTED_INSTANCES)
    instances = share * counted * (scores.instance_loss or 0.0)
    return scores.teacher_loss + (scores.student_loss or 0.0) + instances


def _row(epoch: int, ledger: LossLedger, scores: Validation) -> dict[str, float | int | str | None]:
    return {
        "epoch": epoch,
        "train_teacher_loss": ledger.mean("teacher loss"),
        "train_student_loss": ledger.mean("student loss"),
        "val_teacher_loss": scores.teacher_loss,
        "val_teacher_auc": scores.teacher_auc,
        "val_student_loss": scores.student_loss,
        "val_student_auc": scores.student_auc,
        "val_instance_loss": scores.instance_loss,
        "hidden_fraction": ledger.mean("hidden fraction"),
    }
