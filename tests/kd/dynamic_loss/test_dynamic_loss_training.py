"""The three stages in turn: whose steps they are, who chooses, what a kill changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from distillation_parts import make_network, same, weights_of
from dynamic_loss_parts import loader, plain_student, samples, sgd, teach_distiller
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import Distiller, Linear
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.dynamic_loss_teacher import CoordinateLstm, GradientDescent, LossTeacher
from wsi_kd.kd.dynamic_loss_training import LearningToTeach
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss


def learn(distiller: Distiller, *, epochs: int = 3, **settings: Any) -> LearningToTeach:
    given = {name: settings.pop(name) for name in ("state_path", "on_epoch") if name in settings}
    learning = LearningToTeach(distiller, **settings)
    learning.fit(loader(), loader(12, seed=1), loader(12, seed=2), epochs=epochs, **given)
    return learning


class Still(LossTeacher):
    """A teacher that never moves."""

    start = GradientDescent.start

    def forward(self, gradient: Tensor, memory: Any) -> Any:
        return GradientDescent(rate=1.0)(0.0 * gradient, memory)


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_while_the_loss_is_still_the_student_learns_as_without_it(inner_steps: int) -> None:
    """Momentum, weight decay, learning rate schedule, dropout, statistics of batch norm: all the same."""
    settings = {"learning_rate_schedule": Linear(1.0, 0.2), "seed": 4}
    taught = teach_distiller(make_network(0), **settings).double()
    plain = teach_distiller(make_network(0), criteria={"ce": (CrossEntropyLoss(), 1.0)}, **settings).double()
    parts = [[(x.double(), y) for x, y in loader(seed=seed, shuffle=False)] for seed in (0, 1, 2)]
    LearningToTeach(taught, teacher=Still(), inner_steps=inner_steps).fit(*parts, epochs=3)
    plain.fit(parts[0], parts[2], epochs=3)
    for name, value in plain.student.state_dict().items():
        assert torch.allclose(taught.student.state_dict()[name], value, rtol=1e-9), name
    assert int(taught.student.state_dict()["1.num_batches_tracked"]) == 3 * 4


class Counting(nn.Module):
    """A student that counts its passes by mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.passes = plain_student(), {True: 0, False: 0}

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes[self.training] += 1
        return self.inner(inputs)


@pytest.mark.parametrize(("inner_steps", "changes"), [(1, 4), (3, 2), (9, 1)])
def test_a_training_batch_moves_the_student_once(inner_steps: int, changes: int) -> None:
    student = Counting()
    distiller = teach_distiller(student)
    distiller.prepare(samples(2, seed=0))
    student.passes.update({True: 0, False: 0})
    learn(distiller, epochs=2, inner_steps=inner_steps, window=2)
    # of 4 batches an epoch; of the validation part 2 batches, and its first is read before without a pass
    assert student.passes == {True: 2 * 4, False: 2 * (changes + 2)}


@pytest.mark.parametrize("teacher", [CoordinateLstm, lambda: GradientDescent(rate=0.5)])
def test_loss_and_teacher_learn(teacher: Any) -> None:
    distiller = teach_distiller(plain_student())
    learning = learn(distiller, epochs=4, teacher=teacher())
    loss = distiller.criteria["dynamic"]
    assert loss.last.weight.abs().max() > 1e-4
    assert not torch.equal(loss.first.weight, DynamicLoss(hidden=4).first.weight)
    if isinstance(learning.teacher, CoordinateLstm):
        assert learning.teacher.head.weight.abs().max() > 1e-3
        assert not torch.equal(learning.teacher.cell.weight_hh, CoordinateLstm().cell.weight_hh)
        assert learning.get_buffer("memory_hidden").abs().max() > 1e-4


def test_history_and_both_evaluations(tmp_path: Path) -> None:
    distiller = teach_distiller(plain_student(), learning_rate_schedule=Linear(1.0, 0.0))
    rows: list[Any] = []
    learning = LearningToTeach(distiller)
    val = loader(12, seed=2, shuffle=False)
    result = learning.fit(loader(), loader(12, seed=1), val, epochs=4, on_epoch=rows.append)
    assert result.history == rows
    columns = ["learning_rate", "ce", "dynamic", "teaching_loss", "loss", "val_loss", "val_accuracy", "epoch"]
    assert [sorted(row) for row in rows] == [sorted(columns)] * 4
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    for row in rows:
        assert row["loss"] == pytest.approx(row["ce"] + row["dynamic"], rel=1e-6)
    assert learning.evaluate(val) == result.last
    assert learning.evaluate(val, which="best") == result.best
    assert result.best.accuracy == max(row["val_accuracy"] for row in rows)
    learning.export(tmp_path / "student.safetensors", which="best")
    other = plain_student(seed=8)
    other.load_state_dict(load_file(tmp_path / "student.safetensors"))
    right = sum(int((other(x).argmax(dim=1) == y).sum()) for x, y in val)
    assert right / 12 == result.best.accuracy


def test_schedules_of_weights_are_followed() -> None:
    distiller = teach_distiller(plain_student(), weight_schedules={"ce": Linear(1.0, 0.0)})
    parts = [loader(), loader(12, seed=1), loader(12, seed=2)]
    rows = LearningToTeach(distiller).fit(*parts, epochs=4).history
    for row, factor in zip(rows, (1.0, 0.75, 0.5, 0.25), strict=True):
        assert row["loss"] == pytest.approx(factor * row["ce"] + row["dynamic"], rel=1e-6)
    assert min(row["ce"] for row in rows) > 0.1


class Interrupted(Exception):
    """What kills a training here."""


def stop(row: dict[str, Any]) -> None:
    if row["epoch"] == 1:
        raise Interrupted


@pytest.mark.parametrize("teacher", [CoordinateLstm, lambda: GradientDescent(rate=0.5)])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, teacher: Any) -> None:
    """Student with dropout and batch norm, momentum, loss network, LSTM, its memory and Adam, loaders."""
    settings = {"window": 3, "inner_steps": 2}
    whole = learn(teach_distiller(), epochs=4, teacher=teacher(), **settings)
    state = {"state_path": tmp_path / "state.safetensors"}
    with pytest.raises(Interrupted):
        learn(teach_distiller(), epochs=4, teacher=teacher(), on_epoch=stop, **settings, **state)
    resumed = learn(teach_distiller(), epochs=4, teacher=teacher(), **settings, **state)
    assert same(weights_of(whole), weights_of(resumed))
    assert whole._state is not None
    assert resumed._state is not None
    assert whole._state.history == resumed._state.history
    other = {"teacher": CoordinateLstm(scale=0.07), **settings, **state}
    with pytest.raises(BadInput, match="of another distillation \\(teacher was"):
        learn(teach_distiller(), epochs=5, **other)
    with pytest.raises(BadInput, match="of another distillation \\(window was 3, now it is 2"):
        learn(teach_distiller(), epochs=5, teacher=teacher(), **(settings | state | {"window": 2}))


def test_the_seed_decides_all() -> None:
    runs = [learn(teach_distiller(seed=seed), epochs=2) for seed in (3, 3, 4)]
    assert same(weights_of(runs[0]), weights_of(runs[1]))
    assert not same(weights_of(runs[0]), weights_of(runs[2]))


def test_a_teacher_network_may_stand_beside() -> None:
    criteria = {"kd": (KdLoss(temperature=2.0), 0.5), "dynamic": (DynamicLoss(hidden=4), 1.0)}
    network = make_network(1, hidden=7)
    before = weights_of(network)
    distiller = Distiller(plain_student(), network, criteria=criteria, optimizer=sgd)
    learning = learn(distiller, epochs=3)
    assert same(before, weights_of(network))
    assert not any(name.startswith("teachers") for name in learning.state_dict())
    assert learning._state is not None
    rows = learning._state.history
    assert rows[-1]["kd"] < rows[0]["kd"]


def test_what_teaches_must_not_choose() -> None:
    learning, one = LearningToTeach(teach_distiller()), loader(12, seed=1)
    whole = TensorDataset(*samples(12, seed=1))
    halves = [Subset(whole, range(start, start + 7)) for start in (0, 5)]
    shared = [
        (one, one),
        (one, DataLoader(one.dataset, batch_size=3)),
        tuple(DataLoader(half, batch_size=3) for half in halves),
        (DataLoader(whole, batch_size=3), DataLoader(halves[0], batch_size=3)),
    ]
    for teaching, val in shared:
        with pytest.raises(BadInput, match="teaching_loader and val_loader share samples"):
            learning.fit(loader(), teaching, val, epochs=1)
    apart = [DataLoader(Subset(whole, range(start, start + 6)), batch_size=3) for start in (0, 6)]
    assert len(learning.fit(loader(), *apart, epochs=1).history) == 1


def test_bad_settings() -> None:
    with pytest.raises(BadInput, match="inner_steps is 0 and window 4"):
        LearningToTeach(teach_distiller(), inner_steps=0)
    criteria = {"teaching_loss": (CrossEntropyLoss(), 1.0), "dynamic": (DynamicLoss(), 1.0)}
    with pytest.raises(BadInput, match="criterion 'teaching_loss': the history has a column of that name"):
        LearningToTeach(teach_distiller(criteria=criteria))
    unlabeled = [x for x, _ in loader()]
    kd = {"kd": (KdLoss(), 1.0), "dynamic": (DynamicLoss(), 1.0)}
    learning = LearningToTeach(Distiller(plain_student(), make_network(1), criteria=kd, optimizer=sgd))
    with pytest.raises(BadInput, match="train_loader yielded none"):
        learning.fit(unlabeled, loader(6, seed=1), loader(6, seed=2), epochs=1)
