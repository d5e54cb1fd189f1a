"""Distillation gradients: the identity of linear models, weight 0, a perfect teacher, bad input."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.kl import tempered_kl
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.teacher_gradient import TeacherGradient, mean_gradient
from wsi_kd.kd.variance_reduction import ControlVariate, DistillationGradient, cosine_with_kd

EXACT = {"rtol": 1e-12, "atol": 1e-15}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def linear(seed, *, bias=True):
    torch.manual_seed(seed)
    return nn.Linear(6, 4, bias=bias, dtype=torch.float64)


def deep(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)).double()


@pytest.fixture
def batch():
    inputs = torch.randn(10, 6, generator=generator(0), dtype=torch.float64)
    return inputs, torch.arange(10) % 4


def gradients(loss, network):
    return list(torch.autograd.grad(loss, list(network.parameters())))


def kd_gradients(student, teacher, batch, *, weight, temperature=1.0):
    inputs, labels = batch
    ours, theirs = student(inputs), teacher(inputs).detach()
    kd = tempered_kl(ours, theirs, temperature=temperature)
    return gradients((1.0 - weight) * F.cross_entropy(ours, labels) + weight * kd, student)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_distillation_of_a_linear_model_is_the_distillation_gradient(batch, weight, bias):
    student, teacher = linear(0, bias=bias), linear(1, bias=bias)

    found = gradients(DistillationGradient(student, teacher, weight=weight)(*batch), student)

    torch.testing.assert_close(found, kd_gradients(student, teacher, batch, weight=weight), **EXACT)


def test_the_identity_ends_at_temperature_2_and_is_refused_there(batch):
    student, teacher = linear(0), linear(1)
    found = gradients(DistillationGradient(student, teacher, weight=0.7)(*batch), student)
    hot = kd_gradients(student, teacher, batch, weight=0.7, temperature=2.0)

    assert (found[0] - hot[0]).abs().max() > 1e-2
    with pytest.raises(BadInput, match=r"temperature is 2, .* temperature 1 only"):
        DistillationGradient(student, teacher, weight=0.7, temperature=2.0)


def test_it_is_the_student_s_gradient_less_a_part_of_the_teacher_s(batch):
    """Of any network, and any loss of logits and labels."""
    student, teacher = deep(0).eval(), deep(1).eval()
    inputs, labels = batch

    def squared(logits, labels):
        return (logits - F.one_hot(labels, 4)).square().mean()

    found = gradients(
        DistillationGradient(student, teacher, weight=0.4, objective=squared)(inputs, labels), student
    )

    ours = gradients(squared(student(inputs), labels), student)
    theirs = gradients(squared(teacher(inputs), labels), teacher)
    expected = [own - 0.4 * taught for own, taught in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(found, expected, **EXACT)


def test_weight_0_is_sgd_to_the_last_bit(batch):
    inputs, labels = batch
    plain, taught = linear(0), linear(0)
    reduced = DistillationGradient(taught, linear(1), weight=0.0)
    runs = ((plain, lambda: F.cross_entropy(plain(inputs), labels)), (taught, lambda: reduced(*batch)))
    for network, loss in runs:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9)
        for _ in range(20):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    assert torch.equal(plain.weight, taught.weight)
    assert not torch.equal(plain.weight, linear(0).weight)


def test_the_teacher_keeps_its_mode_its_gradients_and_its_statistics(batch):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double().train()
    student = copy.deepcopy(teacher)
    teacher.requires_grad_(requires_grad=False)
    before = copy.deepcopy(teacher.state_dict())
    reduced = TeacherGradient(student, teacher)

    first, second = reduced.at(*batch), reduced.at(*batch)

    assert teacher.training
    assert all(not own.requires_grad and own.grad is None for own in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(torch.equal(first[name], second[name]) for name in first)  # eval mode: no dropout is drawn
    assert max(value.abs().max().item() for value in first.values()) > 1e-3


def test_frozen_parameters_of_the_student_have_no_part(batch):
    student, teacher = linear(0), linear(1)
    student.bias.requires_grad_(requires_grad=False)

    assert list(TeacherGradient(student, teacher).at(*batch)) == ["weight"]
    DistillationGradient(student, teacher, weight=0.5)(*batch).backward()
    assert student.bias.grad is None


def test_the_full_gradient_is_the_mean_over_the_samples_whatever_the_batches(batch):
    inputs, labels = batch
    network = linear(0)
    whole = gradients(F.cross_entropy(network(inputs), labels), network)

    parts = [(inputs[:7], labels[:7]), (inputs[7:], labels[7:])]
    found = mean_gradient(network, parts)

    torch.testing.assert_close(list(found.values()), whole, **EXACT)


def test_with_the_full_gradient_the_mean_over_all_batches_is_the_student_s_own(batch):
    """No bias, at any weight; without it the bias is - w grad f(theta)."""
    inputs, labels = batch
    student, teacher = linear(0), linear(1)
    halves = [(inputs[:5], labels[:5]), (inputs[5:], labels[5:])]
    full = mean_gradient(teacher, halves)
    own = gradients(F.cross_entropy(student(inputs), labels), student)

    def mean(**settings):
        reduced = DistillationGradient(student, teacher, weight=0.8, **settings)
        each = [gradients(reduced(*half), student) for half in halves]
        return [torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True)]

    torch.testing.assert_close(mean(full_gradient=full, weight_decay=0.1), own, **EXACT)
    biased = [value - 0.8 * theirs for value, theirs in zip(own, full.values(), strict=True)]
    torch.testing.assert_close(mean(), biased, **EXACT)


def test_a_perfect_teacher_keeps_the_student_where_the_loss_has_weight_decay_too():
    """At x = theta and weight 1 every step is nothing; weight decay of the student alone would move it."""
    inputs = torch.randn(40, 6, generator=generator(3), dtype=torch.float64)
    labels = torch.arange(40) % 4
    teacher = linear(0)

    def wander(weight_decay):
        student = copy.deepcopy(teacher)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.5, weight_decay=0.01)
        reduced = DistillationGradient(student, teacher, weight=1.0, weight_decay=weight_decay)
        for start in range(0, 40, 4):
            optimizer.zero_grad()
            reduced(inputs[start : start + 4], labels[start : start + 4]).backward()
            optimizer.step()
        return (student.weight - teacher.weight).abs().max().item()

    assert wander(0.01) < 1e-15
    assert wander(0.0) > 1e-3


def test_a_criterion_gives_the_same_gradient_as_the_loop_of_one_s_own(batch):
    inputs, labels = batch
    student, teacher = linear(0), linear(1)
    expected = gradients(DistillationGradient(student, teacher, weight=0.6)(*batch), student)
    task, variate = CrossEntropyLoss(), ControlVariate(student, teacher)

    outputs = Outputs(student(inputs))
    found = gradients(task(outputs, outputs, labels) + 0.6 * variate(outputs, None, labels), student)

    torch.testing.assert_close(found, expected, **EXACT)
    assert list(variate.parameters()) == []
    assert variate.state_dict() == {}


def test_the_criterion_wants_a_forward_pass_of_its_own(batch):
    """Twice the same inputs would be those of another batch."""
    inputs, labels = batch
    student, teacher = linear(0), linear(1)
    variate = ControlVariate(student, teacher)
    outputs = Outputs(student(inputs))
    variate(outputs, None, labels)

    with pytest.raises(BadInput, match="forward pass in training mode"):
        variate(outputs, None, labels)
    student.eval()
    student(inputs)
    with pytest.raises(BadInput, match="forward pass in training mode"):
        variate(outputs, None, labels)
    with pytest.raises(BadInput, match="needs labels"):
        variate(outputs, None, None)


def test_inputs_may_be_several_or_named(batch):
    class Two(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.inner = linear(seed)

        def forward(self, left, right):
            return self.inner(left + right)

    inputs, labels = batch
    expected = TeacherGradient(linear(0), linear(1)).at(inputs, labels)
    for form in ((inputs, torch.zeros_like(inputs)), {"left": inputs, "right": torch.zeros_like(inputs)}):
        found = TeacherGradient(Two(0), Two(1)).at(form, labels)
        torch.testing.assert_close(found["inner.weight"], expected["weight"], **EXACT)


def test_a_linear_model_s_distillation_points_where_the_method_does_and_a_deep_one_s_elsewhere(batch):
    assert cosine_with_kd(linear(0), linear(1), batch, weight=0.7) == pytest.approx(1.0, abs=1e-12)
    student = deep(0).train()
    apart = cosine_with_kd(student, deep(1), batch, weight=0.7)

    assert -1.0 <= apart < 0.95
    assert cosine_with_kd(student, deep(1), batch, weight=0.0) == pytest.approx(1.0, abs=1e-12)
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (nn.Linear(6, 4, bias=False), r"'bias': student \(4,\), teacher none"),
        (nn.Linear(7, 4), r"'weight': student \(4, 6\), teacher \(4, 7\)"),
        (nn.Sequential(nn.Linear(6, 4)), r"4 parameters differ .* criterion kd"),
    ],
)
def test_a_teacher_of_another_architecture_is_refused(teacher, says):
    with pytest.raises(BadInput, match=says):
        DistillationGradient(nn.Linear(6, 4), teacher, weight=0.5)


def test_bad_settings_are_refused(batch):
    student, teacher = linear(0), linear(1)
    with pytest.raises(BadInput, match=r"share parameters; pass copy\.deepcopy"):
        DistillationGradient(student, student, weight=0.5)
    with pytest.raises(BadInput, match=r"weight is 1\.5"):
        DistillationGradient(student, teacher, weight=1.5)
    with pytest.raises(BadInput, match=r"weight_decay is -1\.0"):
        DistillationGradient(student, teacher, weight=0.5, weight_decay=-1.0)
    with pytest.raises(BadInput, match="no labels"):
        mean_gradient(teacher, [batch[0]])
