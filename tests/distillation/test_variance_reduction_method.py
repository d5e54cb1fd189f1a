"""Method variance_reduction: what it trains, what it chooses, what it tells, what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.methods.variance_reduction import coupled_weight_decay, distill_variance_reduction
from wsi_kd.distillation.task import Data, Task, TrainPlan
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.schedules import Constant
from wsi_kd.kd.teacher_gradient import mean_gradient
from wsi_kd.kd.variance_reduction import DistillationGradient

WEIGHT_DECAY = 0.01
EPOCHS = 2


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.3, weight_decay=WEIGHT_DECAY)


def linear(seed):
    torch.manual_seed(seed)
    return nn.Linear(5, 3)


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, generator=generator)
    return inputs, inputs[:, :3].argmax(dim=1)


@pytest.fixture
def task(samples):
    inputs, labels = samples
    part = TensorDataset(inputs[:40], labels[:40])
    held_out = DataLoader(TensorDataset(inputs[40:], labels[40:]), batch_size=20)
    data = Data(DataLoader(part, batch_size=8), held_out, held_out, classes=3, input_shape=(5,))
    plan = TrainPlan(epochs=EPOCHS, optimizer=sgd, learning_rate_schedule=None, device="cpu", seed=0)
    return Task(
        student=linear(0),
        teachers=[linear(1)],
        data=data,
        criteria={"ce": (CrossEntropyLoss(), 1.0)},
        layers={},
        plan=plan,
    )


def by_hand(task, weight, *, full=None):
    """The same in a loop of one's own; the loaders are not shuffled."""
    student, teacher = linear(0), linear(1)
    taught = DistillationGradient(
        student, teacher, weight=weight, weight_decay=WEIGHT_DECAY, full_gradient=full
    )
    optimizer = sgd(student.parameters())
    for _ in range(EPOCHS):
        for inputs, labels in task.data.train:
            optimizer.zero_grad()
            taught(inputs, labels).backward()
            optimizer.step()
    return student


@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_it_is_the_loop_of_one_s_own(task, weight):
    outcome = distill_variance_reduction(task, weight=weight)

    torch.testing.assert_close(task.student.weight, by_hand(task, weight).weight, rtol=1e-5, atol=1e-6)
    assert list(outcome.history[0])[2:5] == ["loss", "ce", "control_variate"]
    assert outcome.told["weight"] == weight
    assert outcome.told["cosine_with_kd"] == pytest.approx(1.0, abs=1e-5)  # a linear model's


def test_the_full_gradient_is_that_of_the_training_part(task, samples):
    inputs, labels = samples
    full = mean_gradient(task.teachers[0], [(inputs[:40], labels[:40])])
    without = by_hand(task, 1.0).weight

    distill_variance_reduction(task, weight=1.0, full_gradient=True)

    torch.testing.assert_close(
        task.student.weight, by_hand(task, 1.0, full=full).weight, rtol=1e-4, atol=1e-5
    )
    assert (task.student.weight - without).abs().max() > 1e-2


def test_of_several_weights_validation_chooses_and_each_starts_from_the_same(task):
    rows = []
    outcome = distill_variance_reduction(task._replace(on_epoch=rows.append), weight=[0.0, 0.5, 1.0])

    tried = {each["weight"]: each for each in outcome.told["tried"]}
    best = max(tried.values(), key=lambda each: (each["accuracy"], -each["loss"]))
    assert outcome.told["weight"] == best["weight"]
    assert (outcome.best.accuracy, outcome.best.loss) == (best["accuracy"], best["loss"])
    assert len({each["loss"] for each in tried.values()}) == 3
    expected = by_hand(task, best["weight"])
    torch.testing.assert_close(task.student.weight, expected.weight, rtol=1e-5, atol=1e-6)
    assert [row["weight"] for row in rows] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert torch.equal(task.teachers[0].weight, linear(1).weight)


def test_a_run_that_is_done_is_not_trained_again(task, tmp_path):
    state_path = tmp_path / "state.safetensors"
    first = distill_variance_reduction(task._replace(state_path=state_path), weight=[0.0, 0.5])
    rows = []

    again = task._replace(state_path=state_path, student=linear(0), on_epoch=rows.append)
    second = distill_variance_reduction(again, weight=[0.0, 0.5])

    assert rows == []
    assert (second.best, second.history, second.told) == (first.best, first.history, first.told)
    assert torch.equal(again.student.weight, task.student.weight)
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".json"))
    assert names == ["state.weight0.5.safetensors", "state.weight0.safetensors"]


def test_a_schedule_multiplies_the_weight(task):
    distill_variance_reduction(task, weight=0.8, schedule={"name": "constant", "value": 0.5})

    torch.testing.assert_close(task.student.weight, by_hand(task, 0.4).weight, rtol=1e-5, atol=1e-6)


def test_the_student_sees_what_the_teacher_s_gradient_is_of(task):
    """Augmented inputs reach both: with weight 1 a student equal to its teacher never moves."""
    same = task._replace(
        student=linear(1), augment=lambda inputs, labels: (inputs + torch.randn_like(inputs), labels)
    )
    outcome = distill_variance_reduction(same, weight=1.0)

    torch.testing.assert_close(same.student.weight, linear(1).weight, rtol=1e-5, atol=1e-6)
    assert outcome.history[-1]["control_variate"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.02), 0.02),
        (lambda parameters: torch.optim.Adam(parameters, weight_decay=0.03), 0.03),
        (lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.04), 0.0),
    ],
)
def test_weight_decay_counts_where_it_is_part_of_the_gradient(task, optimizer, expected):
    assert coupled_weight_decay(task.plan._replace(optimizer=optimizer)) == expected


def test_what_cannot_be_is_refused(task):
    def refused(says, *, weight=0.5, **changes):
        with pytest.raises(BadInput, match=says):
            distill_variance_reduction(task._replace(**changes), weight=weight)

    refused("there are 0 teachers; it takes one", teachers=[])
    refused("parameters differ .* criterion kd", teachers=[nn.Linear(5, 3, bias=False)])
    refused("weight is 1.2", weight=[0.5, 1.2])
    refused("each once", weight=[0.5, 0.5])
    refused("temperature is 4", criteria={"kd": (KdLoss(temperature=4.0), 1.0)})
    refused("of the labels only", criteria={"kd": (KdLoss(temperature=1.0), 1.0)})
    refused("method.schedule is that of the weight", weight_schedules={"ce": Constant()})
    assert F.mse_loss(task.student.weight, linear(0).weight).item() == 0.0
