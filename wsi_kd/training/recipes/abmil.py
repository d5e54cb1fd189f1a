"""Recipe abmil: the bag teacher alone, the baseline that WENO is compared with. Any number of classes."""

from pathlib import Path

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import content_hash
from wsi_kd.training.bag_checks import bags_hash
from wsi_kd.training.loop import EpochResult, OnEpoch, Trained, fit, start_run, validate
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.plan import Architecture, Optimization
from wsi_kd.training.schedules import teacher_epoch
from wsi_kd.training.state import HistoryRow


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
            ledger = LossLedger(train.slide_ids, run.ranks)
            teacher_epoch(run, ledger, mining=None)
            ledger.check(epoch)
            scores = validate(run)
            row: HistoryRow = {
                "epoch": epoch,
                "train_teacher_loss": ledger.mean("teacher loss"),
                "val_teacher_loss": scores.teacher_loss,
                "val_teacher_auc": scores.teacher_auc,
                "selection_loss": scores.teacher_loss,
            }
            return EpochResult(row, selection_loss=scores.teacher_loss)

        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)
