"""The gradient of the gradient: against differences, and what it leaves alone."""

import math
from typing import Any

import pytest
import torch
from distillation_parts import INPUTS, make_network, weights_of
from dynamic_loss_parts import (
    CLASSES,
    double_batches,
    plain_student,
    ready_pupil,
    samples,
    sgd,
    teach_distiller,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.dynamic_loss_pupil import Pupil
from wsi_kd.kd.dynamic_loss_steps import SgdRule, read_rules, step_down
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs


def nesterov(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)


def plain_sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def differences(pupil: Pupil, batches: list[Any], teaching: Any) -> Tensor:
    """d e / d phi by central differences, from probes alone."""
    numbers, found = pupil.loss_numbers, []
    for place in range(len(numbers)):
        losses = []
        for shift in (1e-5, -1e-5):
            shifted = numbers.clone()
            shifted[place] += shift
            pupil.change_loss(shifted)
            losses.append(pupil.probe(batches, teaching).loss.item())
        found.append((losses[0] - losses[1]) / 2e-5)
    pupil.change_loss(numbers)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", [plain_sgd, sgd, nesterov])
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_gradient_equals_differences(optimizer: Any, inner_steps: int) -> None:
    pupil = ready_pupil(plain_student(), optimizer=optimizer)
    batches, teaching = double_batches(inner_steps), double_batches(1, seed=9)[0]
    expected = differences(pupil, batches, teaching)
    found = pupil.probe(batches, teaching).gradient
    assert expected.norm() > 1e-3
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_gradient_equals_differences_through_batch_norm() -> None:
    """Of one step: the running statistics are those of a batch seen before the loss had any say."""
    student = nn.Sequential(
        nn.Linear(INPUTS, 5), nn.BatchNorm1d(5, momentum=None), nn.Tanh(), nn.Linear(5, CLASSES)
    )
    pupil = ready_pupil(student)
    batches, teaching = double_batches(1), double_batches(1, seed=9)[0]
    for _ in range(3):  # one batch again and again: its own mean is where the statistics stand
        pupil.probe(batches, teaching)
    expected = differences(pupil, batches, teaching)
    found = pupil.probe(batches, teaching).gradient
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_one_step_down_the_gradient_lowers_the_loss_of_the_teaching_part() -> None:
    pupil = ready_pupil(plain_student())
    batches, teaching = double_batches(2), double_batches(1, seed=9)[0]
    before = pupil.probe(batches, teaching)
    rate = 0.1 / float(before.gradient.norm())
    pupil.change_loss(pupil.loss_numbers - rate * before.gradient)
    after = pupil.probe(batches, teaching).loss
    assert after < before.loss
    # the first order of what was gained is rate * |g|^2
    gained = float(before.loss - after) / (rate * float(before.gradient.norm()) ** 2)
    assert 0.5 < gained < 1.5


class Shifted(DynamicLoss):
    """A dynamic loss and a number."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
        return super().forward(student, teacher, labels) + 17.0


def test_a_constant_added_to_the_loss_changes_nothing() -> None:
    batches, teaching = double_batches(2), double_batches(1, seed=9)[0]
    probes = []
    for kind in (DynamicLoss, Shifted):
        criteria = {"ce": (CrossEntropyLoss(), 1.0), "dynamic": (kind(hidden=4), 1.0)}
        probes.append(ready_pupil(plain_student(), criteria=criteria).probe(batches, teaching))
    values = [probe.moved.steps[0].loss.item() for probe in probes]
    assert values[1] - values[0] == pytest.approx(17.0, rel=1e-12)
    for name, value in probes[0].moved.parameters.items():
        assert torch.allclose(value, probes[1].moved.parameters[name], rtol=1e-12, atol=1e-15)
    assert torch.allclose(probes[0].gradient, probes[1].gradient, rtol=1e-9, atol=1e-15)


def test_order_of_the_batch_means_nothing() -> None:
    pupil = ready_pupil(plain_student())
    (inputs, labels), teaching = double_batches(1)[0], double_batches(1, seed=9)[0]
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    first = pupil.probe([(inputs, labels)], teaching).gradient
    second = pupil.probe([(inputs[rows], labels[rows])], teaching).gradient
    assert torch.allclose(first, second, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("optimizer", [plain_sgd, sgd, nesterov])
def test_steps_are_those_of_torch(optimizer: Any) -> None:
    student = plain_student().double()
    own = dict(student.named_parameters())
    torch_steps = optimizer(list(own.values()))
    rules = read_rules(torch_steps, {id(value): name for name, value in own.items()})
    moved = {name: value.detach().clone() for name, value in own.items()}
    momenta = {name: torch.zeros_like(value) for name, value in own.items()}
    for group in torch_steps.param_groups:
        group["lr"] *= 0.5
    for number in range(3):
        gradients = {}
        for name, value in own.items():
            value.grad = torch.full_like(value, 0.1 * (number + 1))
            gradients[name] = value.grad.clone()
        moved, momenta = step_down(moved, gradients, momenta, rules=rules, factor=0.5)
        torch_steps.step()
    for name, value in own.items():
        assert torch.allclose(moved[name], value, rtol=1e-12)


def test_a_parameter_without_gradient_stays() -> None:
    rules = {"a": SgdRule(0.1, 0.9, 0.5, nesterov=False)}
    one = {"a": torch.ones(2)}
    moved, momenta = step_down(one, {"a": None}, {"a": torch.ones(2)}, rules=rules, factor=1.0)
    assert torch.equal(moved["a"], torch.ones(2))
    assert torch.equal(momenta["a"], torch.ones(2))


def test_a_probe_leaves_student_and_loss_alone_and_asks_the_teaching_part_in_eval_mode() -> None:
    """Dropout and batch norm: one training pass moves the statistics, the teaching part moves nothing."""
    pupil = ready_pupil(make_network(0))
    student = pupil.distiller.student
    probe = pupil.probe(double_batches(1), double_batches(1, seed=9)[0])
    assert int(student[1].num_batches_tracked) == 1
    statistics = student[1].running_mean.clone()
    former = weights_of(student)
    assert all(parameter.grad is None for parameter in pupil.distiller.parameters())
    pupil.probe(double_batches(1), double_batches(1, seed=5)[0])
    mean = student[0](double_batches(1)[0][0]).mean(dim=0)
    assert torch.allclose(student[1].running_mean, 0.9 * statistics + 0.1 * mean, rtol=1e-10)
    assert all(torch.equal(former[name], value) for name, value in student.named_parameters())
    assert student.training
    assert student[3].training
    asked = plain_eval(student, probe.moved.parameters, statistics, double_batches(1, seed=9)[0])
    assert probe.loss.item() == pytest.approx(asked, rel=1e-10)


def plain_eval(student: nn.Module, parameters: dict[str, Tensor], mean: Tensor, batch: Any) -> float:
    """Cross entropy of the student with these parameters, in eval mode, by loading them."""
    own = {name.removeprefix("student."): value.detach() for name, value in parameters.items()}
    twin = make_network(0).double()
    twin.load_state_dict({**student.state_dict(), **own})
    twin[1].running_mean.copy_(mean)
    variance = student[0](double_batches(1)[0][0]).var(dim=0).detach()  # of the one pass that moved it
    twin[1].running_var.copy_(0.9 * torch.ones(5, dtype=torch.float64) + 0.1 * variance)
    twin.eval()
    return nn.functional.cross_entropy(twin(batch[0]), batch[1]).item()


class Attending(nn.Module):
    """A student with scaled dot-product attention, whose fused kernels know no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(INPUTS, 2, batch_first=True)
        self.head = nn.Linear(INPUTS, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs[:, None].expand(-1, 3, -1) * torch.arange(1.0, 4.0, dtype=inputs.dtype)[:, None]
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(dim=1))


def test_attention_can_be_a_student() -> None:
    pupil = ready_pupil(Attending(), optimizer=plain_sgd)
    batches, teaching = double_batches(1), double_batches(1, seed=9)[0]
    expected = differences(pupil, batches, teaching)
    found = pupil.probe(batches, teaching).gradient
    assert float((found - expected).norm() / expected.norm()) < 1e-5


class Once(torch.autograd.Function):
    """The identity, differentiable once."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class OnceStudent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(INPUTS, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return Once.apply(self.head(inputs))


def test_a_layer_with_one_derivative_is_named_in_one_line() -> None:
    with pytest.raises(BadInput, match="cannot be differentiated twice"):
        ready_pupil(OnceStudent(), optimizer=plain_sgd).probe(double_batches(1), double_batches(1)[0])


def test_only_sgd_is_differentiated() -> None:
    for optimizer, reason in (
        (torch.optim.AdamW, "optimizer is AdamW: the student's steps are differentiated"),
        (lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.9, dampening=0.1), "dampening or maximize"),
    ):
        with pytest.raises(BadInput, match=reason):
            ready_pupil(plain_student(), optimizer=optimizer)


def test_one_dynamic_loss_is_expected() -> None:
    ce = (CrossEntropyLoss(), 1.0)
    for criteria, count in (
        ({"ce": ce}, 0),
        ({"ce": ce, "dynamic": (DynamicLoss(), 0.0)}, 1),
        ({"a": (DynamicLoss(), 1.0), "b": (DynamicLoss(), 1.0)}, 2),
    ):
        with pytest.raises(BadInput, match=f"criteria: {count} dynamic losses; expected one, of a weight"):
            Pupil(teach_distiller(plain_student(), criteria=criteria))


def test_what_is_not_finite_is_named() -> None:
    pupil, good = ready_pupil(plain_student()), double_batches(1)[0]
    with pytest.raises(RunFailed, match="loss on the teaching part is not finite"):
        pupil.probe([good], (good[0] * math.inf, good[1]))
    numbers = pupil.loss_numbers
    pupil.change_loss(numbers * math.nan)
    with pytest.raises(RunFailed, match="criterion 'dynamic' \\(DynamicLoss\\): its value is not finite"):
        pupil.probe([good], good)


def test_teaching_needs_labels_and_preparation() -> None:
    good = double_batches(1)[0]
    with pytest.raises(BadInput, match="teaching_loader: a batch has no labels"):
        ready_pupil(plain_student()).probe([good], good[0])
    with pytest.raises(BadInput, match="not prepared"):
        Pupil(teach_distiller(plain_student())).probe([samples(4, seed=0)], samples(4, seed=0))
