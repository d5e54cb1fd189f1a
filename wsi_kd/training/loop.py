"""What the recipes share: the start of a run, its batches, one step, and the loop over epochs."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import Instances, PackedBags, pack, plan_batches, resident_features
from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.draws import DrawsForBatch
from wsi_kd.core.memory import freed_memory_kept
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.pooling import segment_ids
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.bag_checks import check_bags, feature_moments
from wsi_kd.training.gates import RATE, active_count, gate_cost, gate_layer, parameter_groups, without_gates
from wsi_kd.training.image_input import check_projector, set_input
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.plan import Architecture, Optimization, StudentPooling
from wsi_kd.training.ranks import ALL, Ranks, present_ranks
from wsi_kd.training.spread import fit_spread
from wsi_kd.training.state import HistoryRow, TrainingState, restore_state, save_state
from wsi_kd.training.validation import Validation, pool_student, score_validation

OnEpoch: TypeAlias = Callable[[HistoryRow], None]
InstanceLosses: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Losses of instances, given the student's logits and the labels of their bags."""


class Trained(NamedTuple):
    """What a recipe returns."""

    model: TeacherStudent
    """Of the epoch with the lowest selection loss on the validation part."""
    last_model: TeacherStudent
    """Of the last epoch trained."""
    history: list[HistoryRow]
    """One row an epoch."""
    selected_epoch: int


class EpochResult(NamedTuple):
    """What a recipe's epoch tells the loop."""

    row: HistoryRow
    selection_loss: float | None
    """Loss on the validation part; None: this epoch cannot be selected."""


class Run(NamedTuple):
    """One training run: what stays fixed, and the state that moves."""

    train: BagSet
    val: BagSet
    optimization: Optimization
    device: torch.device
    state: TrainingState
    resident: Instances | None = None
    """All features of the training part on the device, where they have room there."""
    ranks: Ranks = Ranks()
    """This process among those that train together."""
    drawing: tuple[DrawsForBatch, ...] = ()
    """The model's modules that draw at random, found once: asking them all anew took 0.2 ms a step."""

    @property
    def model(self) -> TeacherStudent:
        """The model in training."""
        return self.state.model

    @property
    def student(self) -> InstanceClassifier:
        """The student in training; a run of the teacher alone has none."""
        if self.model.student is None:
            raise TypeError("this run trains a teacher alone; start it with with_student=True")
        return self.model.student

    def draw_for_whole(self) -> None:
        """Let the model draw at random for the whole batch that this process has a share of."""
        for module in self.drawing if self.ranks.count > 1 else ():
            module.whole = self.ranks.share.whole

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in the run's precision; models raise scores to float32 before they pool them."""
        dtype = matmul_dtype(self.optimization.precision, self.device)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def start_run(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    architecture: Architecture,
    optimization: Optimization,
    with_student: bool,
    teacher_average: float = 0.0,
) -> Iterator[Run]:
    """Yield a fresh run; torch's global generator is seeded inside and as before outside.

    `teacher_average` above 0 keeps a moving average of the model that decays by it at every step.

    Raises:
        BadInput: empty bags, features that are not finite, a part without one of the classes, a projector
            that cannot read them.
    """
    check_bags(train, classes=classes, part="training")
    check_bags(val, classes=classes, part="validation")
    check_projector(train, architecture.projector)
    device = choose_device(optimization.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), freed_memory_kept():
        torch.manual_seed(optimization.seed)
        model = create_model(
            **architecture._asdict(),
            feature_dim=train.features.shape[1],
            classes=classes,
            with_student=with_student,
        )
        mean, deviation = feature_moments(train)
        model.scaling.fit(mean=mean, deviation=deviation)
        fit_spread(model, train)
        set_input(model, optimization)
        if optimization.gates is not None:
            gate_layer(model, optimization.gates.layer)
        model.to(device)
        optimizer = torch.optim.AdamW(
            parameter_groups(model, optimization),
            lr=optimization.learning_rate,
            weight_decay=optimization.weight_decay,
            fused=True,
        )
        generator = torch.Generator().manual_seed(optimization.seed)
        state = TrainingState(model, optimizer, generator)
        if teacher_average > 0.0:
            state.average = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
            state.average_decay = teacher_average
        resident = resident_features(train, device)
        drawing = tuple(module for module in model.modules() if isinstance(module, DrawsForBatch))
        yield Run(train, val, optimization, device, state, resident, present_ranks(), drawing)


def shuffled_batches(run: Run) -> Iterator[tuple[list[int], PackedBags]]:
    """Yield the training bags once, in a new order, packed on the device; of each batch this process's."""
    order = torch.randperm(len(run.train.labels), generator=run.state.generator).tolist()
    sizes = np.diff(run.train.offsets).tolist()
    plan = run.optimization
    batches = plan_batches(sizes, order, token_budget=plan.token_budget, bags_per_step=plan.bags_per_step)
    for batch, following in zip(batches, [*batches[1:], []], strict=True):
        bags = run.ranks.take_bags(batch, [sizes[bag] for bag in batch])
        run.draw_for_whole()
        packed = _packed(run, run.train, bags)
        if run.resident is None:
            coming = run.ranks.own_bags([sizes[bag] for bag in following])
            run.train.announce([following[place] for place in coming])
        yield bags, packed


def ordered_batches(run: Run, bags: BagSet, own: Sequence[int]) -> Iterator[tuple[list[int], PackedBags]]:
    """Yield the bags `own` in their order, as many a batch as the token budget takes."""
    sizes = np.diff(bags.offsets).tolist()
    batches = plan_batches(sizes, own, token_budget=run.optimization.token_budget, bags_per_step=len(own))
    for batch, following in zip(batches, [*batches[1:], []], strict=True):
        packed = _packed(run, bags, batch)
        bags.announce(following)
        yield batch, packed


def take_step(run: Run, loss: Float[Tensor, ""], ledger: LossLedger, *, bag: int) -> None:
    """Step against the gradient of `loss`, clipped; a gradient that is not finite is noted against `bag`.

    Where a layer has gates, their penalty is added to the loss.
    """
    gates = run.optimization.gates
    if gates is not None and (cost := gate_cost(run.model, gates.layer)) is not None:
        loss = loss + gates.penalty * cost / run.ranks.count
    run.state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    run.ranks.sum_gradients(value for group in run.state.optimizer.param_groups for value in group["params"])
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.optimization.gradient_clip)
    ledger.add("gradient norm", norm.reshape(1), [bag])
    run.state.optimizer.step()
    run.state.follow()


@torch.no_grad()
def validate(
    run: Run,
    *,
    student_pooling: StudentPooling = "max",
    top_k: int = 1,
    instance_losses: InstanceLosses | None = None,
) -> Validation:
    """Score the validation part with the present weights, every bag whole.

    `instance_losses` tells the loss of the student's logits given the label of each instance's bag.
    """
    run.model.eval()
    bag_logits, student_logits, losses = [], [], []
    own = run.ranks.own_bags(np.diff(run.val.offsets).tolist())
    for _, packed in ordered_batches(run, run.val, own or [0]):
        with run.autocast():
            output = run.model(packed.instances, packed.offsets)
        bag_logits.append(output.bag_logits)
        if output.instance_logits is not None:
            pooled = pool_student(
                output.instance_logits, packed.offsets, student_pooling=student_pooling, top_k=top_k
            )
            student_logits.append(pooled)
            if instance_losses is not None:
                rows = segment_ids(packed.offsets, len(output.instance_logits))
                losses.append(instance_losses(output.instance_logits, packed.labels[rows]))
    run.model.train()
    labels = torch.from_numpy(np.ascontiguousarray(run.val.labels))

    def of_all_bags(logits: list[Tensor]) -> Tensor:
        return run.ranks.end_to_end(torch.cat(logits).cpu(), bags=own, lengths=[1] * len(own))

    students = of_all_bags(student_logits) if student_logits else None
    scores = score_validation(of_all_bags(bag_logits), students, labels)
    if losses:
        scores = scores._replace(instance_loss=run.ranks.mean(torch.cat(losses), counts=bool(own)))
    return run.ranks.told_by_first(scores)


def fit(
    run: Run,
    *,
    train_epoch: Callable[[int], EpochResult],
    run_hash: str,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train until the epochs or the patience end, from the state in `work_dir` on where it fits `run_hash`.

    The test part plays no role; the epoch is selected on the validation part by loss and not by AUC, which
    saturates at 1 on few bags and then cannot tell epochs apart.
    """
    state = run.state
    restore_state(state, work_dir, run_hash=run_hash)
    run.ranks.check_same_start(state.epoch, work_dir)
    while state.epoch < run.optimization.epochs and not _out_of_patience(run):
        _set_learning_rate(run)
        run.ranks.align(run.model)
        run.model.train()
        result = train_epoch(state.epoch)
        active = active_count(run.model)
        state.history.append(result.row if active is None else {**result.row, "active_neurons": active})
        best = math.inf if state.selected_loss is None else state.selected_loss
        if result.selection_loss is not None and result.selection_loss < best:
            state.select(result.selection_loss)
        state.epoch += 1
        if run.ranks.first:
            save_state(state, work_dir, run_hash=run_hash)
        on_epoch(state.history[-1])
    return _finish(run)


def _packed(run: Run, bags: BagSet, batch: list[int]) -> PackedBags:
    rounds = matmul_dtype(run.optimization.precision, run.device) == torch.bfloat16
    # what is rounded after it is scaled may stay as it is stored until then
    dtype = torch.from_numpy(bags.features[:0]).dtype if rounds else torch.float32
    resident = run.resident if bags is run.train else None
    return pack(bags, batch, device=run.device, dtype=dtype, resident=resident)


def _set_learning_rate(run: Run) -> None:
    plan = run.optimization
    factor = 0.5 * (1.0 + math.cos(math.pi * run.state.epoch / plan.epochs))
    for group in run.state.optimizer.param_groups:
        group["lr"] = plan.learning_rate * factor * group.get(RATE, 1.0)


def _out_of_patience(run: Run) -> bool:
    selected = run.state.selected_epoch
    return selected is not None and run.state.epoch - selected > run.optimization.patience


def _finish(run: Run) -> Trained:
    state, run.ranks.share = run.state, ALL
    run.draw_for_whole()
    if state.selected_epoch is None:
        state.selected_epoch = state.epoch - 1
        state.selected_weights = run.model.state_dict()
    selected = copy.deepcopy(run.model)
    selected.load_state_dict(state.selected_weights)
    best, last = (without_gates(model).eval() for model in (selected, run.model))
    return Trained(best, last, state.history, state.selected_epoch)
