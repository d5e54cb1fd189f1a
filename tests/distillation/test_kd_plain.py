import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.methods.plain import Interleaved, distill_plain
from wsi_kd.distillation.optimizers import optimizer_factory
from wsi_kd.distillation.task import Data, Outcome, Task, TrainPlan
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss


def network() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 2)


def task(criteria, *, teachers: int = 1) -> Task:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(24, 3, generator=draw)
    teacher = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        teacher.weight.copy_(torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]]))
    y = (x[:, 0] < 0).long()
    labeled = DataLoader(TensorDataset(x[:4], y[:4]), batch_size=4)
    unlabeled = DataLoader(TensorDataset(x[4:]), batch_size=4)
    test = DataLoader(TensorDataset(x, y), batch_size=8)
    return Task(
        student=network(),
        teachers=[teacher] * teachers,
        data=Data(labeled, test, test, classes=2, input_shape=(3,), unlabeled=unlabeled),
        criteria=criteria,
        layers={},
        plan=TrainPlan(
            epochs=10,
            optimizer=optimizer_factory("sgd", {}, learning_rate=0.5),
            learning_rate_schedule=None,
            device="cpu",
            seed=0,
        ),
    )


def both() -> dict:
    return {"ce": (CrossEntropyLoss(), 0.5), "kd": (KdLoss(temperature=1.0), 0.5)}


def test_loaders_are_walked_in_turn_then_the_rest_of_the_longer_one():
    first, second = DataLoader(range(2), batch_size=1), DataLoader(range(10, 14), batch_size=1)
    walked = [int(batch) for batch in Interleaved(first, second)]
    assert walked == [0, 10, 1, 11, 12, 13]
    assert [int(batch) for batch in Interleaved(second, first)] == [10, 0, 11, 1, 12, 13]


def test_samples_without_labels_teach_what_the_teacher_knows():
    with_them: Outcome = distill_plain(task(both()), unlabeled=True)
    without = distill_plain(task(both()), unlabeled=False)
    assert with_them.last.loss < without.last.loss
    assert with_them.last.accuracy >= 0.95


def test_where_all_criteria_need_labels_the_others_are_not_walked():
    alone = {"ce": (CrossEntropyLoss(), 1.0)}
    found = distill_plain(task(alone, teachers=0), unlabeled=True)
    expected = distill_plain(task({"ce": (CrossEntropyLoss(), 1.0)}, teachers=0), unlabeled=False)
    assert found.history == expected.history


def test_the_best_epochs_weights_are_returned_and_the_last_ones_stay_in_the_student():
    given = task(both())
    rows: list[dict] = []
    outcome = distill_plain(given._replace(on_epoch=rows.append), unlabeled=True)
    assert rows == outcome.history
    best = min(rows, key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    assert outcome.best_epoch == best["epoch"]
    student = network()
    student.load_state_dict(outcome.weights)
    x, y = given.data.test.dataset.tensors
    loss = nn.functional.cross_entropy(student(x), y).item()
    assert loss == pytest.approx(outcome.best.loss, rel=1e-5)
    last = nn.functional.cross_entropy(given.student(x), y).item()
    assert last == pytest.approx(outcome.last.loss, rel=1e-5)


def test_several_teachers_need_a_loss_for_them():
    with pytest.raises(BadInput, match="it learns from one teacher, and there are 2"):
        distill_plain(task(both(), teachers=2), unlabeled=True)
