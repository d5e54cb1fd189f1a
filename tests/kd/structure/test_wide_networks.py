"""Effective logits, tangent kernels and what they say of a distillation."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.soft_ratio import suggest_soft_ratio
from wsi_kd.kd.tangent_kernels import empirical_kernel, erf_tangent_kernel, relu_kernel
from wsi_kd.kd.wide_networks import (
    data_inefficiency,
    effective_logits,
    kernel_student,
    transfer_risk_bound,
    weight_norms,
)

LOGITS = torch.tensor([-9.0, -2.0, -0.5, 0.0, 0.5, 3.0, 12.0], dtype=torch.float64)


def points(samples: int, *, seed: int = 0, width: int = 3) -> Tensor:
    drawn = torch.randn(samples, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([drawn, drawn.new_ones(samples, 1)], dim=1)


def labels(values: list[int]) -> Tensor:
    return torch.tensor(values)


class Erf(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return torch.erf(values / math.sqrt(2.0))


class TwoLayers(nn.Module):
    """f(x) = a.sigma(W x) / sqrt(m)."""

    def __init__(self, width: int, neurons: int, activation: nn.Module) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.incoming = nn.Parameter(torch.randn(neurons, width, generator=generator, dtype=torch.float64))
        self.outgoing = nn.Parameter(torch.randn(neurons, generator=generator, dtype=torch.float64))
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(inputs @ self.incoming.T) @ self.outgoing / math.sqrt(len(self.outgoing))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("soft_ratio", [1.0, 0.95, 0.5, 0.01, 1e-4])
@pytest.mark.parametrize("squared", [False, True])
def test_effective_logits_are_stationary(temperature, soft_ratio, squared):
    for truth in (0, 1):
        found = effective_logits(
            LOGITS,
            labels([truth] * 7),
            soft_ratio=soft_ratio,
            temperature=temperature,
            times_squared_temperature=squared,
        )
        soft = soft_ratio * (temperature if squared else 1 / temperature)
        slope = soft * (torch.sigmoid(found / temperature) - torch.sigmoid(LOGITS / temperature)) + (
            1 - soft_ratio
        ) * (torch.sigmoid(found) - truth)
        assert slope.abs().max().item() < 1e-12
        assert (found.diff() > 0).all()  # grows with the teacher's


def test_soft_ratio_of_one_is_the_teacher():
    found = effective_logits(LOGITS, labels([0, 1, 0, 1, 0, 1, 0]), soft_ratio=1.0, temperature=3.0)
    torch.testing.assert_close(found, LOGITS, rtol=0, atol=1e-8)


def test_effective_logits_grow_with_the_label_and_turn_to_it():
    zeros, ones = (effective_logits(LOGITS, labels([truth] * 7), soft_ratio=0.5) for truth in (0, 1))
    assert (ones > zeros).all()
    wrong = torch.tensor([-2.0], dtype=torch.float64)
    signs = [
        effective_logits(wrong, labels([1]), soft_ratio=ratio).item() > 0 for ratio in (0.99, 0.7, 0.3, 0.01)
    ]
    assert signs == sorted(signs)
    assert signs[0] is False
    assert signs[-1] is True


def test_classes_can_be_exchanged():
    truth = labels([0, 1, 1, 0, 1, 0, 1])
    found = effective_logits(LOGITS, truth, soft_ratio=0.3, temperature=2.0)
    other = effective_logits(-LOGITS, 1 - truth, soft_ratio=0.3, temperature=2.0)
    torch.testing.assert_close(found, -other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel", "activation"), [(relu_kernel, nn.ReLU()), (erf_tangent_kernel, Erf())])
def test_kernel_of_infinite_width_is_what_wide_networks_come_to(kernel, activation):
    inputs = points(5)
    found = empirical_kernel(TwoLayers(4, 60_000, activation), inputs, chunk=2)
    scale = 2.0 if isinstance(activation, nn.ReLU) else 1.0  # the kernel is of sqrt(2) max(t, 0)
    torch.testing.assert_close(scale * found, kernel(inputs), rtol=0.05, atol=0.08)


@pytest.mark.parametrize("kernel", [relu_kernel, erf_tangent_kernel])
def test_kernels_are_symmetric_and_positive(kernel):
    inputs = points(40)
    matrix = kernel(inputs)
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > -1e-10
    torch.testing.assert_close(kernel(inputs[:7], inputs[7:]), matrix[:7, 7:])


def test_relu_kernel_of_a_point_with_itself():
    inputs = points(6)
    torch.testing.assert_close(relu_kernel(inputs).diagonal(), 2 * inputs.square().sum(dim=1))


def test_empirical_kernel_is_the_product_of_gradients_in_any_chunks():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    network[3].bias.requires_grad_(requires_grad=False)
    images = torch.randn(5, 1, 4, 4)
    rows = []
    for image in images:
        network.zero_grad()
        network(image[None])[0, 1].backward()
        rows.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    for chunk in (2, 64):
        torch.testing.assert_close(empirical_kernel(network, images, output=1, chunk=chunk), expected)
    torch.testing.assert_close(empirical_kernel(network, images[:2], images[2:], output=1), expected[:2, 2:])


def test_student_interpolates_and_its_norm_never_falls():
    kernel, target = (
        relu_kernel(points(60)),
        torch.randn(60, dtype=torch.float64, generator=torch.Generator().manual_seed(5)),
    )
    student = kernel_student(kernel, target)
    torch.testing.assert_close(student.predict(kernel), target, rtol=1e-6, atol=1e-6)
    norms = weight_norms(kernel, target, range(1, 61))
    assert all(later >= earlier for earlier, later in pairwise(norms))
    assert norms[-1] == pytest.approx(student.norm, rel=1e-9)
    assert norms[9] == pytest.approx(kernel_student(kernel[:10, :10], target[:10]).norm, rel=1e-6)


def test_equal_samples_of_one_target_can_be_solved():
    inputs = points(10)[[0, 0, 1, 2, 3]]
    target = torch.tensor([1.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(
        kernel_student(relu_kernel(inputs), target).predict(relu_kernel(inputs)), target, rtol=1e-5, atol=1e-5
    )


def test_target_in_the_kernels_space_needs_few_samples_and_a_jump_many():
    inputs = points(320)
    centers = points(8, seed=9)
    kernel = relu_kernel(inputs)
    inside = relu_kernel(inputs, centers) @ torch.linspace(-1, 1, 8, dtype=torch.float64)
    jump = torch.where(inputs[:, 0] > 0, 5.0, -5.0).double()
    easy = data_inefficiency(kernel, inside, [80, 160, 320])[-1]
    hard = data_inefficiency(kernel, jump, [80, 160, 320])[-1]
    assert abs(easy) < 0.05
    assert 0.35 < hard < 0.7


def test_risk_is_below_its_bound_which_falls():
    centers = points(20, seed=9)
    weights = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    teacher_norm = math.sqrt((weights @ relu_kernel(centers) @ weights).item())
    test = points(2000, seed=7)
    truth = relu_kernel(test, centers) @ weights
    bounds = []
    for count in (20, 80, 320):
        inputs = points(count, seed=4)
        student = kernel_student(relu_kernel(inputs), relu_kernel(inputs, centers) @ weights)
        found = student.predict(relu_kernel(test, inputs))
        risk = (found * truth < 0).double().mean().item()
        bounds.append(
            transfer_risk_bound(
                student.norm, teacher_norm, logits=truth, feature_norms=relu_kernel(test).diagonal().sqrt()
            )
        )
        assert risk <= bounds[-1]
    assert bounds == sorted(bounds, reverse=True)


def test_suggestion_trusts_a_perfect_teacher_and_not_a_bad_one():
    inputs = points(120)
    logit = 4.0 * inputs[:, 0] + 2.0 * inputs[:, 1]
    truth = (logit > 0).long()
    good = suggest_soft_ratio(inputs, logit, truth)
    assert good.best.soft_ratio >= 0.8
    assert good.best.error < 0.01
    assert good.teacher_error == 0.0
    assert len(good.tried) == 1 + 7 * 3
    bad = suggest_soft_ratio(inputs, -logit, truth)
    assert bad.teacher_error == 1.0
    assert bad.best.soft_ratio <= 0.2
    assert bad.best.error < 0.2


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: effective_logits(LOGITS, labels([0] * 7), soft_ratio=0.0), "soft ratio 0"),
        (lambda: effective_logits(LOGITS, labels([0] * 7), soft_ratio=0.5, temperature=0.0), "temperature 0"),
        (lambda: effective_logits(LOGITS, labels([2] * 7), soft_ratio=0.5), "binary"),
        (lambda: effective_logits(LOGITS * math.inf, labels([0] * 7), soft_ratio=0.5), "not finite"),
        (lambda: kernel_student(torch.eye(3), torch.ones(2)), "square"),
        (
            lambda: kernel_student(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.ones(2)),
            "singular at sample 2",
        ),
        (lambda: kernel_student(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.ones(2)), "not symmetric"),
        (lambda: kernel_student(torch.zeros(3, 3), torch.ones(3)), "singular at sample 1"),
        (lambda: kernel_student(torch.ones(3, 3), torch.tensor([1.0, 1.0, -1.0])), "cannot tell apart"),
        (lambda: kernel_student(points(9) @ points(9).T, LOGITS.new_ones(9).cumsum(0)), "is singular"),
        (lambda: weight_norms(torch.ones(3, 3), torch.tensor([1.0, 1.0, -1.0]), [3]), "cannot tell apart"),
        (
            lambda: suggest_soft_ratio(
                points(20)[[0] * 10 + [1] * 10], LOGITS.repeat(3)[:20], labels([0, 1] * 10)
            ),
            "cannot tell apart",
        ),
        (lambda: weight_norms(torch.eye(3), torch.ones(3), [4]), "from 1 to 3"),
        (lambda: data_inefficiency(torch.eye(3), torch.ones(3), [2]), "growing"),
        (
            lambda: transfer_risk_bound(2.0, 1.0, logits=LOGITS, feature_norms=LOGITS.abs()),
            "cannot be larger",
        ),
        (lambda: suggest_soft_ratio(points(6), LOGITS[:6], labels([0, 1] * 3)), "5 folds of 6"),
        (lambda: suggest_soft_ratio(points(5), LOGITS, labels([0] * 7)), "5 rows of features"),
        (lambda: relu_kernel(points(2), points(2, width=5)), "width 4 and 6"),
        (lambda: empirical_kernel(nn.Linear(4, 2).double(), points(2)), "say which"),
        (lambda: empirical_kernel(nn.Linear(4, 2).double(), points(2), output=2), "expected 0 to 1"),
        (lambda: empirical_kernel(nn.ReLU(), points(2)), "no parameter"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
