"""The closed forms of copy or average: against Monte Carlo, autograd and each other."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.copy_average import (
    Neurons,
    best_partition,
    erf_kernel,
    expected_loss,
    one_average,
    orthonormal_teacher,
    partition_loss,
    partition_point,
    partitions,
)

PUBLISHED = {1: 0.0, 2: 0.0232217, 3: 0.0405932, 5: 0.0724526, 10: 0.1489067}


def drawn(neurons: int, inputs: int, *, seed: int) -> Neurons:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(neurons, inputs, generator=generator, dtype=torch.float64)
    return Neurons(weights, torch.randn(neurons, generator=generator, dtype=torch.float64))


def loss_of(flat: Tensor, teacher: Neurons, neurons: int) -> Tensor:
    weights = flat[neurons:].view(neurons, -1)
    return expected_loss(Neurons(weights, flat[:neurons]), teacher)


def flat(student: Neurons) -> Tensor:
    return torch.cat([student.outgoing, student.weights.reshape(-1)])


def gradient(student: Neurons, teacher: Neurons) -> Tensor:
    point = flat(student).requires_grad_()
    (found,) = torch.autograd.grad(loss_of(point, teacher, len(student.outgoing)), point)
    return found


def lowest_curvature(student: Neurons, teacher: Neurons) -> float:
    hessian = torch.autograd.functional.hessian(
        lambda point: loss_of(point, teacher, len(student.outgoing)), flat(student)
    )
    assert isinstance(hessian, Tensor)
    return float(torch.linalg.eigvalsh(hessian)[0])


def test_loss_equals_monte_carlo_within_four_standard_errors():
    student, teacher = drawn(3, 4, seed=0), drawn(5, 4, seed=1)
    inputs = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ours, theirs = (
        torch.erf(inputs @ net.weights.T / math.sqrt(2.0)) @ net.outgoing for net in (student, teacher)
    )
    squares = (ours - theirs).square()
    standard_error = squares.std().item() / math.sqrt(len(squares))
    assert abs(squares.mean().item() - expected_loss(student, teacher).item()) < 4 * standard_error


def test_kernel_of_a_neuron_with_one_of_no_weight_is_zero():
    assert erf_kernel(torch.zeros(1, 2), torch.ones(3, 2)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(("neurons", "loss"), PUBLISHED.items())
def test_average_has_the_published_loss(neurons, loss):
    assert one_average(neurons).loss == pytest.approx(loss, abs=5e-8)
    point, teacher = partition_point([neurons]), orthonormal_teacher(neurons)
    assert expected_loss(point, teacher).item() == pytest.approx(loss, abs=5e-8)


def test_increments_of_the_loss_fall_to_their_limit():
    losses = [one_average(neurons).loss for neurons in range(1, 400)]
    increments = [later - earlier for earlier, later in pairwise(losses)]
    assert all(later < earlier for earlier, later in pairwise(increments))
    assert increments[-1] == pytest.approx(1 / 3 - 1 / math.pi, abs=1e-6)


@pytest.mark.parametrize("neurons", [1, 2, 3, 7, 20, 50])
def test_average_is_a_minimum_of_one_neuron(neurons):
    point, teacher = partition_point([neurons]), orthonormal_teacher(neurons)
    assert gradient(point, teacher).abs().max().item() < 1e-12
    assert lowest_curvature(point, teacher) > 0


def test_average_of_one_is_a_copy():
    teacher = orthonormal_teacher(1)
    assert torch.equal(partition_point([1]).weights, teacher.weights)
    assert torch.equal(partition_point([1]).outgoing, teacher.outgoing)


@pytest.mark.parametrize("teacher_neurons", range(1, 9))
def test_every_partition_is_critical_and_its_loss_the_sum(teacher_neurons):
    teacher = orthonormal_teacher(teacher_neurons)
    for student_neurons in range(1, teacher_neurons + 1):
        for parts in partitions(teacher_neurons, student_neurons):
            point = partition_point(parts)
            assert gradient(point, teacher).abs().max().item() < 1e-12
            assert expected_loss(point, teacher).item() == pytest.approx(partition_loss(parts), abs=1e-12)


@pytest.mark.parametrize("teacher_neurons", range(2, 9))
def test_copies_and_one_average_are_the_best_partition(teacher_neurons):
    for student_neurons in range(1, teacher_neurons + 1):
        every = sorted(partitions(teacher_neurons, student_neurons), key=partition_loss)
        assert every[0] == best_partition(teacher_neurons, student_neurons)
        assert all(partition_loss(parts) > partition_loss(every[0]) for parts in every[1:])


def test_only_copies_and_one_average_are_a_minimum():
    teacher = orthonormal_teacher(7)
    for student_neurons in (2, 3):
        best = best_partition(7, student_neurons)
        for parts in partitions(7, student_neurons):
            assert (lowest_curvature(partition_point(parts), teacher) > 0) == (parts == best)


def test_student_as_wide_as_the_teacher_has_no_loss():
    parts = best_partition(6, 6)
    assert parts == (1,) * 6
    assert partition_loss(parts) == 0.0


def test_loss_does_not_know_order_sign_or_rotation():
    student, teacher = drawn(3, 5, seed=3), drawn(6, 5, seed=4)
    plain = expected_loss(student, teacher)
    turned = torch.linalg.qr(drawn(5, 5, seed=5).weights).Q
    order = torch.tensor([2, 0, 1])
    for other in (
        expected_loss(Neurons(student.weights[order], student.outgoing[order]), teacher),
        expected_loss(Neurons(-student.weights, -student.outgoing), teacher),
        expected_loss(
            Neurons(student.weights @ turned, student.outgoing),
            Neurons(teacher.weights @ turned, teacher.outgoing),
        ),
    ):
        torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12)


def test_inputs_of_no_weight_do_not_matter():
    parts = best_partition(5, 2)
    wide = expected_loss(partition_point(parts, inputs=9), orthonormal_teacher(5, inputs=9))
    assert wide.item() == pytest.approx(partition_loss(parts), abs=1e-12)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: one_average(0), "at least 1"),
        (lambda: partition_point([2, 0]), "at least 1"),
        (lambda: orthonormal_teacher(3, inputs=2), "need 3 inputs"),
        (lambda: best_partition(3, 4), "expected 1 to 3"),
        (lambda: expected_loss(drawn(1, 2, seed=0), drawn(1, 3, seed=0)), "the same inputs"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
