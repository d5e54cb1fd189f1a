"""The method dynamic_loss: how it cuts the validation part, what it tells, its options in the file."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dynamic_loss_parts import loader, plain_student, samples, sgd
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.methods.dynamic_loss import distill_dynamic_loss, split_validation, tell_loss
from wsi_kd.distillation.task import Data, Outcome, Task, TrainPlan
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.settings.distill import DistillSettings, DynamicLossSettings
from wsi_kd.settings.faults import parse, read_mapping

CONFIG = Path(__file__).resolve().parents[2] / "configs/kd/dynamic_loss.yaml"
LSTM = {"name": "lstm", "units": 4, "scale": 0.05, "learning_rate": 0.01}


def make_task(**changes: Any) -> Task:
    data = Data(
        loader(24), loader(20, seed=1, shuffle=False), loader(12, seed=2), classes=3, input_shape=(4,)
    )
    plan = TrainPlan(epochs=3, optimizer=sgd, learning_rate_schedule=None, device="cpu", seed=5)
    task = Task(plain_student(), [], data, {"ce": (CrossEntropyLoss(), 1.0)}, {}, plan)
    return task._replace(**changes)


def distill(task: Task, **changes: Any) -> Outcome:
    options = {"teaching": 8, "weight": 1.0, "hidden": 4, "activation": "tanh", "teacher": LSTM}
    return distill_dynamic_loss(task, **({**options, "inner_steps": 1, "window": 2} | changes))


@pytest.mark.parametrize(("teaching", "count"), [(8, 8), (0.25, 10), (39, 39)])
def test_validation_is_cut_in_two_by_class(teaching: float, count: int) -> None:
    labels = torch.tensor([0] * 20 + [1] * 12 + [2] * 8)[
        torch.randperm(40, generator=torch.Generator().manual_seed(0))
    ]
    val = DataLoader(TensorDataset(torch.arange(40.0)[:, None], labels), batch_size=7)
    halves = split_validation(val, teaching=teaching, seed=3)
    taught, chosen = (
        [(int(x), int(y)) for inputs, found in half for x, y in zip(inputs[:, 0], found, strict=True)]
        for half in halves
    )
    assert len(taught) == count
    assert sorted(taught + chosen) == list(enumerate(labels.tolist()))
    for one, size in enumerate((20, 12, 8)):
        assert abs(sum(label == one for _, label in taught) - count * size / 40) <= 1.0
    again = split_validation(val, teaching=teaching, seed=3)
    assert again.teaching.dataset.indices == halves.teaching.dataset.indices
    assert (
        split_validation(val, teaching=teaching, seed=4).teaching.dataset.indices
        != again.teaching.dataset.indices
    )


@pytest.mark.parametrize("teaching", [20, 0.01, 0.99])
def test_a_cut_leaves_something_on_both_sides(teaching: float) -> None:
    with pytest.raises(BadInput, match=f"method.teaching is {teaching}: .* of 20 validation samples"):
        distill(make_task(), teaching=teaching)


def test_outcome_is_of_the_samples_that_taught_nothing(tmp_path: Path) -> None:
    task = make_task(state_path=tmp_path / "state.safetensors")
    outcome = distill(task)
    assert outcome.best.samples == 12
    assert outcome.told["teaching_samples"] == 8
    assert outcome.told["choosing_samples"] == 12
    assert [row["epoch"] for row in outcome.history] == [0, 1, 2]
    assert max(row["val_accuracy"] for row in outcome.history) == outcome.best.accuracy
    task.student.load_state_dict(outcome.weights)
    chosen = split_validation(task.data.val, teaching=8, seed=5).choosing
    task.student.eval()
    right = sum(int((task.student(x).argmax(dim=1) == y).sum()) for x, y in chosen)
    assert right / 12 == outcome.best.accuracy
    other = distill(make_task(), teacher={"name": "descent", "rate": 0.5})
    assert other.told["loss"] != outcome.told["loss"]


def test_what_the_loss_has_become_is_told_up_to_a_constant() -> None:
    loss = DynamicLoss(hidden=1)
    with torch.no_grad():
        loss.first.weight.copy_(torch.tensor([[1.0, -2.0]]))
        loss.first.bias.zero_()
        loss.last.weight.fill_(3.0)
    told = tell_loss(loss)
    grid = torch.linspace(0, 1, 11)
    assert told["probability"] == pytest.approx(grid.tolist())
    for name, target in (("of_the_label", 1.0), ("of_another_class", 0.0)):
        values = 3.0 * (F.softplus(grid - 2 * target) - F.softplus(torch.tensor(-2 * target)))
        assert told[name] == pytest.approx(values.tolist(), abs=1e-6)


def test_a_criterion_of_the_same_name_is_refused() -> None:
    with pytest.raises(BadInput, match="it adds the criterion 'dynamic', and there is one already"):
        distill(make_task(criteria={"dynamic": (CrossEntropyLoss(), 1.0)}))


def test_an_unknown_teacher_is_told() -> None:
    with pytest.raises(BadInput, match=r"unknown teacher of method dynamic_loss 'lstn'.*did you mean 'lstm'"):
        distill(make_task(), teacher={"name": "lstn"})


def test_unlabeled_samples_play_no_role() -> None:
    unlabeled = DataLoader(TensorDataset(samples(30, seed=9)[0]), batch_size=5)
    data = make_task().data._replace(unlabeled=unlabeled)
    assert distill(make_task(data=data)).history == distill(make_task()).history


def test_settings_of_the_config() -> None:
    settings = parse(DistillSettings, read_mapping(CONFIG, such_as="data"), where=str(CONFIG))
    assert isinstance(settings.method, DynamicLossSettings)
    assert settings.method.teacher.name == "lstm"
    assert settings.data.label_noise == 0.4
    mapping: dict[str, Any] = read_mapping(CONFIG, such_as="data")
    mapping["method"] = {"name": "dynamic_loss", "window": 0}
    with pytest.raises(BadInput, match="window"):
        parse(DistillSettings, mapping, where="x")
    mapping["method"] = {"name": "dynamic_loss", "inner_step": 2}
    with pytest.raises(BadInput, match="inner_steps"):
        parse(DistillSettings, mapping, where="x")
