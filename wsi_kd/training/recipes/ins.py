"""Recipe ins: an instance classifier taught by prototypes, without a bag teacher. Two classes.

INS-style, after Qu et al., "Rethinking Multiple Instance Learning for Whole Slide Image Classification: A
Good Instance Classifier is All You Need", TCSVT 2024 (arXiv 2307.02249); written from the formulas. With h_i
the shared projection, z_i = h_i / |h_i|, and one linear classifier e_i = W h_i + b (the evidence), a step is

    prototypes    m_r <- unit(g m_r + (1 - g) mean of its members' z)        r negative, positive
                  members: all instances of negative bags; in positive bags the share `positive_fraction`
                  of largest e_i1 - e_i0
    pseudo label  s_i <- a s_i + (1 - a) [z_i m_pos > z_i m_neg] in positive bags, starting at 1;
                  s_i = 0 in negative bags, whose instances are true negatives
    instance      L_i = CE(e_i, (1 - s_i, s_i)), mean over instances
    contrast      L_c = -1/|F| sum_(j in F) log softmax_j(q_i k_j / t), F the instances of i's family, which
                  is the classifier's call in positive bags, negative in negative bags
    bag           L_b = CE(pooled e, Y), pooled by max, mean or top-k mean
    loss          L_i + u L_c + v L_b

During `warm_up_epochs` the prototypes move and s_i stays the bag's label. What differs from the paper:
features are given, so that the two views q and k of an instance are two draws of dropout on its projection
and not two augmentations of its image; there is no contrast head, no momentum encoder and no queue (keys are
at most `contrast_instances` drawn from the step's bags); prototypes move once a step by the mean of their
members instead of once an instance; which share of positive bags moves the positive prototype is a setting.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import PackedBags
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import segment_ids, segment_mean
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
from wsi_kd.training.plan import Architecture, Optimization, Prototyping
from wsi_kd.training.prototypes import (
    contrastive_losses,
    move_prototypes,
    prototype_members,
    unit_length,
    vote,
)
from wsi_kd.training.recipes.instance import pooled_architecture
from wsi_kd.training.state import HistoryRow

CLASSES: Final = 2
PROTOTYPES: Final = "prototypes"
"""Row 0 negative, row 1 positive, of unit length: (2, hidden)."""
CONFIDENCE: Final = "confidence"
"""The pseudo label of every training instance: (instances,)."""


class _Step(NamedTuple):
    """What the losses of one step read."""

    hidden: Float[Tensor, "instances hidden"]
    output: BagOutput
    confidence: Float[Tensor, "instances"]
    families: Int64[Tensor, "instances"]


def train_ins(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    prototyping: Prototyping,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train; selected is the epoch of the lowest cross entropy of the bag on `val`, after the warm-up.

    `architecture.teacher` is not read: the pooling takes its place. `work_dir` holds the state of an
    unfinished run, prototypes and pseudo labels included: called again with the same arguments, training goes
    on there.

    Raises:
        BadInput: other than two classes, bags that cannot be trained on, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    if classes != CLASSES:
        raise BadInput(
            f"recipe ins tells positive from negative instances and needs two classes, found {classes}; "
            "take it out of train.recipes, or merge classes"
        )
    shape = pooled_architecture(architecture, prototyping.pooling)
    plan = {"recipe": "ins", **shape._asdict(), **optimization._asdict(), **prototyping._asdict()}
    run_hash = content_hash({**plan, "bags": bags_hash(train, val)})
    with start_run(
        train, val, classes=classes, architecture=shape, optimization=optimization, with_student=False
    ) as run:
        run.state.memory = _fresh_memory(run)

        def train_epoch(epoch: int) -> EpochResult:
            ledger = LossLedger(train.slide_ids, run.ranks)
            labels = epoch >= prototyping.warm_up_epochs
            prototype_steps(run, ledger, shuffled_batches(run), prototyping=prototyping, labels=labels)
            ledger.check(epoch)
            scores = validate(run)
            row: HistoryRow = {
                "epoch": epoch,
                "train_teacher_loss": ledger.mean("bag loss"),
                "train_instance_loss": ledger.mean("instance loss"),
                "train_contrast_loss": ledger.mean("contrast loss"),
                "positive_share": _positive_share(run),
                "val_teacher_loss": scores.teacher_loss,
                "val_teacher_auc": scores.teacher_auc,
                "selection_loss": scores.teacher_loss,
            }
            return EpochResult(row, selection_loss=scores.teacher_loss if labels else None)

        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)


def prototype_steps(
    run: Run,
    ledger: LossLedger,
    batches: Iterable[tuple[list[int], PackedBags]],
    *,
    prototyping: Prototyping,
    labels: bool,
) -> None:
    """Step once a batch; the pseudo labels move where `labels`, the prototypes always."""
    for bags, packed in batches:
        with run.autocast():
            hidden = run.model.project(packed.instances)
            output: BagOutput = run.model.teacher(run.model.dropout(hidden), packed.offsets)
        families = _learn_labels(
            run, bags, packed, hidden=hidden, output=output, prototyping=prototyping, labels=labels
        )
        confidence = run.state.memory[CONFIDENCE][_rows(run, bags)]
        step = _Step(hidden, output, confidence, families)
        loss = _losses(run, ledger, bags, packed=packed, step=step, prototyping=prototyping)
        take_step(run, loss, ledger, bag=bags[0])


@torch.no_grad()
def _learn_labels(
    run: Run,
    bags: list[int],
    packed: PackedBags,
    *,
    hidden: Float[Tensor, "instances hidden"],
    output: BagOutput,
    prototyping: Prototyping,
    labels: bool,
) -> Int64[Tensor, "instances"]:
    """Move prototypes and pseudo labels by these bags; return the family of each of their instances."""
    memory, embeddings = run.state.memory, unit_length(hidden)
    log_odds = output.evidence[:, 1] - output.evidence[:, 0]
    members = prototype_members(
        log_odds, packed.offsets, packed.labels, positive_fraction=prototyping.positive_fraction
    )
    memory[PROTOTYPES] = move_prototypes(
        memory[PROTOTYPES], embeddings, members=members, decay=prototyping.prototype_decay
    )
    positive = packed.labels[segment_ids(packed.offsets, len(log_odds))] == 1
    if labels:
        rows, decay = _rows(run, bags), prototyping.label_decay
        moved = decay * memory[CONFIDENCE][rows] + (1.0 - decay) * vote(embeddings, memory[PROTOTYPES])
        memory[CONFIDENCE][rows] = moved * positive
    return (positive & (log_odds > 0)).long()


def _losses(
    run: Run,
    ledger: LossLedger,
    bags: list[int],
    *,
    packed: PackedBags,
    step: _Step,
    prototyping: Prototyping,
) -> Float[Tensor, ""]:
    targets = torch.stack([1.0 - step.confidence, step.confidence], dim=1)
    instance_losses = F.cross_entropy(step.output.evidence, targets, reduction="none")
    bag_losses = teacher_losses(step.output.bag_logits, packed.labels)
    contrast = _contrast(run, step, prototyping=prototyping)
    ledger.add("instance loss", segment_mean(instance_losses, packed.offsets), bags)
    ledger.add("bag loss", bag_losses, bags)
    ledger.add("contrast loss", contrast.reshape(1), bags[:1])
    weighted = prototyping.contrast_weight * contrast + prototyping.bag_weight * bag_losses.mean()
    return instance_losses.mean() + weighted


def _contrast(run: Run, step: _Step, *, prototyping: Prototyping) -> Float[Tensor, ""]:
    """Return the contrastive loss of a draw of the step's instances, two draws of dropout their views."""
    drawn = torch.randperm(len(step.hidden), generator=run.state.generator)
    drawn = drawn[: prototyping.contrast_instances].to(step.hidden.device)
    hidden = step.hidden[drawn]
    queries, keys = (unit_length(run.model.dropout(hidden)) for _ in range(2))
    losses = contrastive_losses(queries, keys, step.families[drawn], temperature=prototyping.temperature)
    return losses.mean()


def _fresh_memory(run: Run) -> dict[str, Tensor]:
    hidden_dim = run.model.teacher.get_parameter("bag_head.weight").shape[1]
    labels = torch.from_numpy(np.repeat(run.train.labels, np.diff(run.train.offsets)))
    return {
        PROTOTYPES: torch.zeros(2, hidden_dim, device=run.device),
        CONFIDENCE: labels.float().to(run.device),
    }


def _rows(run: Run, bags: list[int]) -> Int64[Tensor, "instances"]:
    """Return where the instances of bags stand in the training part."""
    offsets = run.train.offsets
    rows = np.concatenate([np.arange(offsets[bag], offsets[bag + 1]) for bag in bags])
    return torch.from_numpy(rows).to(run.device)


def _positive_share(run: Run) -> float:
    """Return the mean pseudo label in positive bags: the witness rate as the prototypes see it."""
    positive = np.repeat(run.train.labels == 1, np.diff(run.train.offsets))
    return run.state.memory[CONFIDENCE].cpu()[torch.from_numpy(positive)].mean().item()
