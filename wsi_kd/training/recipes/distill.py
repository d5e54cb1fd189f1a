"""Recipe distill: a small model learns from the trained model of another recipe. Any number of classes.

The large model L is frozen, in eval mode and asked without gradient; both read the same whole bags.

    loss = label_weight      CE(S(bag), label), with S's own auxiliary loss where it has one
         + bag_weight        T^2 KL(softmax(L(bag) / T) || softmax(S(bag) / T))          mean over bags
         + attention_weight  KL(attention of L || attention of S) over a bag's instances; mean over bags
         + instance_weight   BCE(sigmoid(s_i), sigmoid(l_i)), logits of the students; mean over instances
         + hint_weight       mean (R h_i - g_i)^2, h and g the projectors' vectors, R learned and thrown away

The losses are those of `wsi_kd.kd`: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network",
2015 (bags; attention is the same divergence at T = 1, a bag's instances in the place of classes); Hao et al.,
"Revisit the power of vanilla knowledge distillation", NeurIPS 2023 (the binary form, instances); Romero et
al., "FitNets", ICLR 2015 (the hint). The small model has a student where the large one has and the
weight says so. While it learns, dropout, noise and turned tiles are the small model's alone: the large one's
word on a bag is the same in every epoch. It may start from the large model's neurons (`narrow_start`).
"""

from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import PackedBags, pack
from wsi_kd.core.files import content_hash
from wsi_kd.core.tensors import tensors_hash
from wsi_kd.kd.losses.hint import HintLoss
from wsi_kd.kd.losses.kl import BinaryKdLoss, KdLoss
from wsi_kd.kd.outputs import Outputs
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.bag_checks import bags_hash
from wsi_kd.training.distillation_checks import check_compression
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
from wsi_kd.training.narrow_start import start_narrow
from wsi_kd.training.plan import Architecture, Compression, Optimization
from wsi_kd.training.ranks import weighed
from wsi_kd.training.state import HistoryRow
from wsi_kd.training.validation import Validation

HINT: Final = "hint"
LESSONS: Final = ("bag loss", "attention loss", "instance loss", "hint loss")
OF_BAGS: Final = LESSONS[:2]
"""Lessons whose mean is over bags; that of the others is over instances."""


class Said(NamedTuple):
    """What one model says of packed bags."""

    hidden: Tensor
    """(instances, hidden): the projector's vectors."""
    dropped: Tensor
    """The same after dropout, which is what the heads read."""
    bags: BagOutput
    instance_logits: Tensor | None
    """(instances, positives); None without a student."""

    @property
    def outputs(self) -> Outputs:
        """The same as the losses read it: bag logits, and the projector's vectors as the pair "hint"."""
        return Outputs(self.bags.bag_logits, {HINT: self.hidden})


def train_distill(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    compression: Compression,
    large: TeacherStudent,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train the small model of `architecture`; `large` is frozen for good and moved to the run's device.

    Selected is the epoch of the lowest cross entropy on `val`, with a student plus the ranking loss of its
    pooled logits: by labels, not by agreement with the large model. `work_dir` holds the state of an
    unfinished run: called again with the same arguments, training goes on there.

    Raises:
        BadInput: bags that cannot be trained on, a large model that cannot teach this, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    check_compression(large, train, compression, classes=classes, teacher=architecture.teacher)
    plan = {"recipe": "distill", **architecture._asdict(), **optimization._asdict(), **compression._asdict()}
    facts = {**plan, "classes": classes, "large": tensors_hash(large.state_dict())}
    run_hash = content_hash({**facts, "bags": bags_hash(train, val)})
    with start_run(
        train,
        val,
        classes=classes,
        architecture=architecture,
        optimization=optimization,
        with_student=large.student is not None and compression.instance_weight > 0.0,
    ) as run:
        large.requires_grad_(requires_grad=False).eval().to(run.device)
        lessons = Lessons(run, large, compression)
        if compression.narrow_start:
            start_narrow(run.model, large, run.train)

        def train_epoch(epoch: int) -> EpochResult:
            ledger = LossLedger(train.slide_ids, run.ranks)
            lessons.recall(run)
            for bags, packed in shuffled_batches(run):
                _step(run, ledger, bags=bags, packed=packed, lessons=lessons)
            lessons.remember(run)
            ledger.check(epoch)
            scores = validate(run, student_pooling=compression.student_pooling, top_k=compression.top_k)
            loss = scores.teacher_loss + (scores.student_loss or 0.0)
            return EpochResult(_row(epoch, ledger, scores) | {"selection_loss": loss}, selection_loss=loss)

        return fit(run, train_epoch=train_epoch, run_hash=run_hash, work_dir=work_dir, on_epoch=on_epoch)


class Lessons:
    """What the large model teaches: each loss with its weight, and the map that the hint learns."""

    def __init__(self, run: Run, large: TeacherStudent, compression: Compression) -> None:
        """Build the losses; the hint's map is drawn from torch's global generator and joins the optimizer."""
        self.large = large
        self.compression = compression
        self.on_bags = KdLoss(temperature=compression.temperature)
        self.on_attention = KdLoss(temperature=1.0)
        self.on_instances = BinaryKdLoss(activation="sigmoid")
        self.hint = HintLoss()
        self.hint.pair = HINT
        if compression.hint_weight > 0.0:
            self._prepare_hint(run)

    def ask_large(self, run: Run, packed: PackedBags) -> Said:
        """Return the large model's word: eval mode, no gradient."""
        with torch.no_grad(), run.autocast():
            return _say(self.large, packed)

    def losses(self, small: Said, large: Said, sizes: list[int]) -> dict[str, tuple[float, Tensor]]:
        """Return (weight, loss) of each lesson that has a weight; `sizes` counts each bag's instances."""
        plan, found = self.compression, {}
        ours, theirs = small.outputs, large.outputs
        if plan.bag_weight > 0.0:
            found["bag loss"] = (plan.bag_weight, self.on_bags(ours, theirs, None))
        if plan.attention_weight > 0.0:
            found["attention loss"] = (plan.attention_weight, self._attention(small, large, sizes))
        if small.instance_logits is not None and large.instance_logits is not None:
            pair = (Outputs(small.instance_logits), Outputs(large.instance_logits))
            found["instance loss"] = (plan.instance_weight, self.on_instances(*pair, None))
        if plan.hint_weight > 0.0:
            found["hint loss"] = (plan.hint_weight, self.hint(ours, theirs, None))
        return found

    def recall(self, run: Run) -> None:
        """Give the hint's map what the run remembers of it: a resumed run has another one's start."""
        if run.state.memory:
            self.hint.load_state_dict(run.state.memory)

    def remember(self, run: Run) -> None:
        """Leave the hint's map, where there is one, with the run's state."""
        run.state.memory = dict(self.hint.state_dict())

    def _attention(self, small: Said, large: Said, sizes: list[int]) -> Tensor:
        """Return the mean over bags; of one instance all attention is its own, so that nothing diverges."""
        ours = torch.split(small.bags.attention_logits, sizes)
        theirs = torch.split(large.bags.attention_logits, sizes)
        losses = [
            self.on_attention(Outputs(bag[None]), Outputs(other[None]), None)
            if len(bag) > 1
            else bag.sum() * 0.0
            for bag, other in zip(ours, theirs, strict=True)
        ]
        return torch.stack(losses).mean()

    def _prepare_hint(self, run: Run) -> None:
        packed = pack(run.train, [0], device=run.device, dtype=torch.float32)
        with torch.no_grad():
            small, large = (_say(model, packed).outputs for model in (run.model, self.large))
        self.hint.prepare(small, large)
        run.state.optimizer.add_param_group({"params": list(self.hint.parameters())})


def _step(run: Run, ledger: LossLedger, *, bags: list[int], packed: PackedBags, lessons: Lessons) -> None:
    """Step once on the labels and on what the large model says of the same bags."""
    large = lessons.ask_large(run, packed)
    with run.autocast():
        small = _say(run.model, packed)
    hard = teacher_losses(small.bags.bag_logits, packed.labels)
    ledger.add("teacher loss", hard, bags)
    objective = teacher_objective(
        hard, run.model.teacher, hidden=small.dropped, packed=packed, keep=None, ledger=ledger, bags=bags
    )
    share = run.ranks.share
    loss = lessons.compression.label_weight * weighed(objective, share.bags)
    sizes = [int(run.train.offsets[bag + 1] - run.train.offsets[bag]) for bag in bags]
    for name, (weight, value) in lessons.losses(small, large, sizes).items():
        part = share.bags if name in OF_BAGS else share.instances
        ledger.add(name, value.reshape(1), bags[:1], weight=part)
        loss = loss + weight * weighed(value, part)
    take_step(run, loss, ledger, bag=bags[0])


def _say(model: TeacherStudent, packed: PackedBags) -> Said:
    hidden = model.project(packed.instances)
    dropped = model.dropout(hidden)
    bags: BagOutput = model.teacher(dropped, packed.offsets)
    return Said(hidden, dropped, bags, None if model.student is None else model.student(dropped))


def _row(epoch: int, ledger: LossLedger, scores: Validation) -> HistoryRow:
    return {
        "epoch": epoch,
        "train_teacher_loss": ledger.mean("teacher loss"),
        **{f"train_{name.replace(' ', '_')}": ledger.mean(name) for name in LESSONS},
        "val_teacher_loss": scores.teacher_loss,
        "val_teacher_auc": scores.teacher_auc,
        "val_student_loss": scores.student_loss,
        "val_student_auc": scores.student_auc,
    }
