"""Recipe mhim: masked hard instance mining with a moving-average teacher. Any number of classes.

After Tang et al., "Multiple Instance Learning Framework with Masked Hard Instance Mining for Whole Slide
Image Classification", ICCV 2023. A moving average of the model reads the whole bag without dropout and ranks
its instances; the highest are hidden from the model, which must learn from the harder rest:

    average <- d average + (1 - d) model                              after every step
    s_i = attention_i (1 - p_i0), p_i = softmax(evidence_i)           by the average
    M = bag without its ceil(ratio n) highest s_i                     at least one hidden, in every bag
    L = CE(model(M), label) + w CE(model(M), softmax(average(bag)))

The trained model is deployed, as in the paper, and reads whole bags. What differs from the paper: the
consistency is one of bag logits, which every teacher of the registry has, and not of bag embeddings; only the
highest scores are masked, by a constant ratio (no random and no low-score masking, no decay of the ratio);
scores are class-aware, as in the authors' later work; the average starts with the model, which learns from
whole bags for `warm_up_epochs`, instead of from a model trained before.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import PackedBags
from wsi_kd.core.files import content_hash
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.weno import TeacherStudent, TeacherStudentOutput
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
from wsi_kd.training.losses import LossLedger, teacher_losses, teacher_objective
from wsi_kd.training.masking import hide_highest, salience
from wsi_kd.training.mining_step import note_hidden
from wsi_kd.training.plan import Architecture, Masking, Optimization
from wsi_kd.training.ranks import weighed
from wsi_kd.training.schedules import teacher_epoch
from wsi_kd.training.state import HistoryRow


def train_mhim(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    masking: Masking,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train; selected is the epoch of the lowest cross entropy on `val`, whole bags, after the warm-up.

    `work_dir` holds the state of an unfinished run: called again with the same arguments, training goes on
    there.

    Raises:
        BadInput: bags that cannot be trained on, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    plan = {"recipe": "mhim", "classes": classes, **architecture._asdict(), **optimization._asdict()}
    run_hash = content_hash({**plan, **masking._asdict(), "bags": bags_hash(train, val)})
    with start_run(
        train,
        val,
        classes=classes,
        architecture=architecture,
        optimization=optimization,
        with_student=False,
        teacher_average=masking.average,
    ) as run:

        def train_epoch(epoch: int) -> EpochResult:
            ledger = LossLedger(train.slide_ids, run.ranks)
            masks = epoch >= masking.warm_up_epochs
            if masks:
                masked_steps(run, ledger, shuffled_batches(run), masking=masking)
            else:
                teacher_epoch(run, ledger, mining=None)
            ledger.check(epoch)
            scores = validate(run)
            row: HistoryRow = {
                "epoch": epoch,
                "train_teacher_loss": ledger.mean("teacher loss"),
                "train_consistency_loss": ledger.mean("consistency loss"),
                "val_teacher_loss": scores.teacher_loss,
                "val_teacher_auc": scores.teacher_auc,
                "selection_loss": scores.teacher_loss,
                "hidden_fraction": ledger.mean("hidden fraction"),
            }
            return EpochResult(row, selection_loss=scores.teacher_loss if masks else None)

        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)


def masked_steps(
    run: Run, ledger: LossLedger, batches: Iterable[tuple[list[int], PackedBags]], *, masking: Masking
) -> None:
    """Step once a batch on what the moving average leaves to be seen."""
    for bags, packed in batches:
        whole = _ask_average(run, packed)
        scores = salience(whole.attention_logits, whole.evidence)
        keep = hide_highest(scores, packed.offsets, ratio=masking.mask_ratio)
        with run.autocast():
            dropped = run.model.dropout(run.model.project(packed.instances))
            output: BagOutput = run.model.teacher(dropped, packed.offsets, keep)
        losses = teacher_losses(output.bag_logits, packed.labels)
        consistency = F.cross_entropy(output.bag_logits, whole.bag_logits.softmax(dim=1), reduction="none")
        ledger.add("teacher loss", losses, bags)
        ledger.add("consistency loss", consistency, bags)
        note_hidden(ledger, keep, packed, bags=bags)
        objective = teacher_objective(
            losses, run.model.teacher, hidden=dropped, packed=packed, keep=keep, ledger=ledger, bags=bags
        )
        loss = objective + masking.consistency_weight * consistency.mean()
        take_step(run, weighed(loss, run.ranks.share.bags), ledger, bag=bags[0])


@torch.no_grad()
def _ask_average(run: Run, packed: PackedBags) -> TeacherStudentOutput:
    average: TeacherStudent | None = run.state.average
    if average is None:
        raise TypeError("this run keeps no moving average; start it with teacher_average above 0")
    with run.autocast():
        output: TeacherStudentOutput = average(packed.instances, packed.offsets)
    return output
