"""Recipe abmil: the bag teacher alone, the baseline that WENO is compared with. Any number of classes."""

from pathlib import Path

import torch

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import content_hash
from wsi_kd.training.bag_checks import bags_hash
from wsi_kd.training.loop import (
    EpochResult,
    OnEpoch,
    Run,
    Trained,
    fit,
    shuffled_batches,
    start_run,
    take_step,
    validate,
)
from wsi_kd.training.losses import LossLedger, teacher_losses
from wsi_kd.training.plan import Architecture, Optimization


def train_abmil(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train a teacher on bag labels; the epoch of the lowest cross entropy on `val` is selected.

    `work_dir` holds the state of an unfinished run: called again with the same arguments, training goes on
    there.

    Raises:
        BadInput: bags that cannot be trained on, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    plan = {"recipe": "abmil", "classes": classes, **architecture._asdict(), **optimization._asdict()}
    run_hash = content_hash({**plan, "bags": bags_hash(train, val)})
    with start_run(
        train, val, classes=classes, architecture=architecture, optimization=optimization, with_student=False
    ) as run:

        def train_epoch(epoch: int) -> EpochResult:
            ledger = LossLedger(train.slide_ids)
            _teacher_epoch(run, ledger)
            ledger.check(epoch)
            scores = validate(run)
            row = {
                "epoch": epoch,
                "train_teacher_loss": ledger.mean("teacher loss"),
                "val_teacher_loss": scores.teacher_loss,
                "val_teacher_auc": scores.teacher_auc,
                "selection_loss": scores.teacher_loss,
            }
            return EpochResult(row, selection_loss=scores.teacher_loss)

        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)


def _teacher_epoch(run: Run, ledger: LossLedger) -> None:
    for bags, packed in shuffled_batches(run):
        with run.autocast():
            output = run.model(packed.instances, packed.offsets)
        losses = teacher_losses(output.bag_logits, packed.labels)
        ledger.add("teacher loss", losses, torch.tensor(bags))
        take_step(run, losses.mean(), ledger, bag=bags[0])
