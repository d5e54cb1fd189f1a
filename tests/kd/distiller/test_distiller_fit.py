"""Training over epochs: what is reported, seeded, saved, gone on with and exported."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    INPUTS,
    LogitMatch,
    Projected,
    Task,
    adamw,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    sgd,
    weights_of,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd import LOSSES
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fitting import FitResult
from wsi_kd.kd.schedules import Cosine, Linear, Steps


class Unsettled:
    """A loader of random augmentations by torch, numpy and `random`."""

    def __init__(self) -> None:
        self.order = torch.Generator().manual_seed(5)

    def __iter__(self) -> Any:
        own = make_loader(shuffle=True, generator=self.order)
        for inputs, labels in own:
            shift = random.random() + np.random.random() + torch.rand(1)
            yield inputs + 0.1 * shift, labels

    @property
    def generator(self) -> torch.Generator:
        return self.order


def full_distiller(**settings: Any) -> Distiller:
    """Everything that must survive: dropout, batch norm, a learned layer, momentum, schedules."""
    criteria = {"ce": (Task(), 0.5), "kd": (LogitMatch(), 2.0), "hint": (Projected(), 1.0)}
    fixed = {"layers": {"hint": ("1", "2")}, "weight_schedules": {"kd": Linear(1.0, 0.5)}}
    return make_distiller(criteria=criteria, **(fixed | settings))


def run(distiller: Distiller, epochs: int, **settings: Any) -> FitResult:
    return distiller.fit(Unsettled(), make_loader(seed=1), epochs=epochs, **settings)


class Interrupted(Exception):
    """What kills a training here."""


def stop_after(epoch: int) -> Any:
    def on_epoch(row: dict[str, float | int]) -> None:
        if row["epoch"] == epoch:
            raise Interrupted

    return on_epoch


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, optimizer: Any) -> None:
    settings = {"optimizer": optimizer, "learning_rate_schedule": Cosine(1.0, 0.1)}
    whole = full_distiller(**settings)
    expected = run(whole, 4)
    state = tmp_path / "state.safetensors"
    killed = full_distiller(**settings)
    with pytest.raises(Interrupted):
        run(killed, 4, state_path=state, on_epoch=stop_after(1))
    torch.rand(3), random.random(), np.random.random()  # whatever else the process draws
    resumed = full_distiller(**settings)
    found = run(resumed, 4, state_path=state)
    assert found == expected
    assert same(weights_of(resumed), weights_of(whole))
    for ours, theirs in zip(
        resumed.optimizer.state_dict()["state"].values(),
        whole.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert same(ours, theirs)
    resumed.export(tmp_path / "a.safetensors", which="best")
    whole.export(tmp_path / "b.safetensors", which="best")
    assert same(load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors"))


def test_groups_of_an_optimizer_come_back_as_they_were(tmp_path: Path) -> None:
    first = full_distiller(optimizer=adamw)
    run(first, 1, state_path=tmp_path / "state")
    second = full_distiller(optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.01))
    run(second, 1, state_path=tmp_path / "state")
    assert second.optimizer.param_groups[0]["betas"] == (0.8, 0.99)


def test_more_epochs_later_are_the_same_as_at_once(tmp_path: Path) -> None:
    fixed = {"weight_schedules": {}}
    at_once, later = full_distiller(**fixed), full_distiller(**fixed)
    expected = run(at_once, 3)
    loader = Unsettled()
    later.fit(loader, make_loader(seed=1), epochs=1)
    assert later.fit(loader, make_loader(seed=1), epochs=3) == expected
    assert later.fit(loader, make_loader(seed=1), epochs=3) == expected  # nothing is left to do


def test_samplers_are_told_the_epoch() -> None:
    class Announced(RandomSampler):
        def __init__(self, data: Any) -> None:
            super().__init__(data)
            self.epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    data = TensorDataset(*batch_of(12))
    sampler = Announced(data)
    make_distiller().fit(DataLoader(data, batch_size=6, sampler=sampler), make_loader(), epochs=3)
    assert sampler.epochs == [0, 1, 2]


def test_seeds_decide_all_draws() -> None:
    def trained(seed: int, *, before: int) -> dict[str, Tensor]:
        torch.manual_seed(before)
        distiller = full_distiller(seed=seed)
        run(distiller, 2)
        return weights_of(distiller)

    assert same(trained(3, before=0), trained(3, before=1))
    assert not same(trained(3, before=0), trained(4, before=0))


def test_history_tells_means_over_the_samples() -> None:
    """Nothing moves at a learning rate of 0, so that all batches meet one student; the last is smaller."""
    student, teacher = nn.Linear(INPUTS, 3), nn.Linear(INPUTS, 3)
    distiller = make_distiller(student, teacher, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    inputs, labels = batch_of(10)
    result = distiller.fit(make_loader(10, batch=4), make_loader(10), epochs=1)
    row = result.history[0]
    task = F.cross_entropy(student(inputs), labels).item()
    match = F.mse_loss(student(inputs), teacher(inputs)).item()
    accuracy = (student(inputs).argmax(1) == labels).float().mean().item()
    expected = {"epoch": 0, "learning_rate": 0.0, "ce": task, "kd": match, "loss": 0.5 * task + 2.0 * match}
    assert row == pytest.approx(expected | {"val_loss": task, "val_accuracy": accuracy}, abs=1e-6)
    assert result.last == pytest.approx((accuracy, task, 10), abs=1e-6)


def test_last_and_best_are_told_apart(tmp_path: Path) -> None:
    """A learning rate that jumps after two epochs ruins a student that had learned."""
    distiller = make_distiller(
        nn.Linear(INPUTS, 3),
        [],
        criteria={"ce": (Task(), 1.0)},
        learning_rate_schedule=Steps((0.5,), factor=-300.0),
    )
    val = make_loader(60, seed=1)
    result = distiller.fit(make_loader(60), val, epochs=4)
    accuracies = [row["val_accuracy"] for row in result.history]
    assert [row["learning_rate"] for row in result.history] == pytest.approx([0.1, 0.1, -30.0, -30.0])
    assert result.best_epoch == accuracies.index(max(accuracies)) == 1
    assert result.best.accuracy == max(accuracies)
    assert result.last.accuracy == accuracies[-1] < 0.5 < result.best.accuracy
    assert distiller.evaluate(val) == pytest.approx(result.last)
    assert distiller.evaluate(val, which="best") == pytest.approx(result.best)
    assert distiller.evaluate(val) == pytest.approx(result.last)  # the student is as it was
    distiller.export(tmp_path / "best.safetensors", which="best")
    assert same(load_file(tmp_path / "best.safetensors"), distiller.student_state(which="best"))
    assert not same(distiller.student_state(), distiller.student_state(which="best"))
    student = nn.Linear(INPUTS, 3)
    student.load_state_dict(load_file(tmp_path / "best.safetensors"))
    again = make_distiller(student, [], criteria={"ce": (Task(), 1.0)})
    assert again.evaluate(val) == pytest.approx(result.best)


def test_soft_labels_are_scored_by_their_largest() -> None:
    student = nn.Linear(INPUTS, 3)
    inputs, _ = batch_of(5)
    soft = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [0.4, 0.3, 0.3], [0.2, 0.2, 0.6]])
    logits = student(inputs)
    right = (logits.argmax(1) == torch.tensor([0, 2, 1, 0, 2])).float().mean().item()
    loss = -(soft * logits.log_softmax(1)).sum(1).mean().item()
    found = make_distiller(student).evaluate([(inputs[:2], soft[:2]), (inputs[2:], soft[2:])])
    assert found == pytest.approx((right, loss, 5))


def test_best_is_by_accuracy_then_by_loss() -> None:
    assert Evaluation(0.9, 5.0, 10).beats(Evaluation(0.8, 0.1, 10))
    assert Evaluation(0.8, 0.1, 10).beats(Evaluation(0.8, 0.2, 10))
    assert not Evaluation(0.8, 0.1, 10).beats(Evaluation(0.8, 0.1, 10))
    assert Evaluation(0.0, 9.0, 10).beats(None)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_an_export_is_the_bare_student(tmp_path: Path, wrap: Any) -> None:
    network = make_network(0)
    make_distiller(wrap(network)).export(tmp_path / "deep" / "student.safetensors")
    assert same(load_file(tmp_path / "deep" / "student.safetensors"), weights_of(network))


def test_tied_weights_are_exported_and_loaded(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, 3))
    network[1].weight = network[0].weight
    make_distiller(network).export(tmp_path / "student.safetensors")
    other = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, 3))
    other.load_state_dict(load_file(tmp_path / "student.safetensors"))
    assert torch.equal(other(torch.ones(1, INPUTS)), network(torch.ones(1, INPUTS)))


def test_no_best_before_any_epoch(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none is the best; call fit"):
        make_distiller().export(tmp_path / "student.safetensors", which="best")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    run(full_distiller(), 1, state_path=state)
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(BadInput, match="damaged"):
        run(full_distiller(), 2, state_path=state)
    state.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="not readable as distillation state"):
        run(full_distiller(), 2, state_path=state)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seed": 1}, "seed was 0, now it is 1"),
        ({"layers": {"hint": ("1", "1")}}, "criteria was"),
        ({"weight_schedules": {"kd": Linear(0.9, 0.5)}}, "epoch 0 was trained with"),
        ({"learning_rate_schedule": Cosine(0.5, 0.0)}, "epoch 0 was trained with"),
        (
            {"student": make_network(0, hidden=6)},
            r"8 tensors differ, such as .*layer\.weight: \(7, 5\) there, \(7, 6\)",
        ),
        ({"optimizer": adamw}, "optimizer was SGD, now it is AdamW"),
        (
            {"optimizer": lambda p: torch.optim.SGD(p, lr=0.2)},
            r"learning rates was \[0\.1\], now it is \[0\.2\]",
        ),
    ],
)
def test_a_state_of_another_distillation_is_refused(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    state = tmp_path / "state.safetensors"
    run(full_distiller(), 2, state_path=state)
    other = full_distiller(**settings)
    before = weights_of(other.student)
    with pytest.raises(BadInput, match=told) as error:
        run(other, 2, state_path=state)
    assert "\n" not in str(error.value)
    assert same(weights_of(other.student), before)


def test_a_state_of_another_temperature_is_refused(tmp_path: Path) -> None:
    def distill(temperature: float) -> FitResult:
        criteria = {"kd": (LOSSES["kd"](temperature=temperature), 1.0)}
        return run(make_distiller(criteria=criteria), 1, state_path=tmp_path / "state")

    assert distill(4.0) == distill(4.0)
    with pytest.raises(BadInput, match=r"'temperature': 4\.0.*now it is .*'temperature': 2\.0"):
        distill(2.0)


def test_a_stretched_schedule_is_not_gone_on_with(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    run(full_distiller(), 2, state_path=state)
    with pytest.raises(BadInput, match="epoch 1 was trained with"):
        run(full_distiller(), 5, state_path=state)


def test_an_optimizer_that_cannot_be_saved_is_told(tmp_path: Path) -> None:
    def odd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = sgd(parameters)
        optimizer.param_groups[0]["secret"] = object()
        return optimizer

    with pytest.raises(RunFailed, match="SGD: its 'secret' is object"):
        run(full_distiller(optimizer=odd), 1, state_path=tmp_path / "state")
