"""What changes a dynamic loss: equivariance, the zero head, memory, and what the LSTM learns from."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.dynamic_loss_teacher import (
    CoordinateLstm,
    GradientDescent,
    Memory,
    TaughtLoss,
    scale_gradient,
)


def lively(seed: int = 0) -> CoordinateLstm:
    """An LSTM in float64 whose head is no longer 0."""
    teacher = CoordinateLstm(units=4, seed=seed).double()
    with torch.no_grad():
        teacher.head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return teacher


def gradients(count: int, coordinates: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, coordinates, generator=draw, dtype=torch.float64) * 0.01


def test_inputs_by_hand() -> None:
    found = scale_gradient(torch.tensor([0.02, -1e-4, 0.0], dtype=torch.float64))
    expected = [[math.log(201.0) / 10, 1.0], [-math.log(2.0) / 10, -0.01], [0.0, 0.0]]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


def test_a_permutation_of_coordinates_permutes_steps_and_memory() -> None:
    teacher, order = lively(), torch.tensor([3, 5, 0, 2, 1, 4])
    memory, permuted = teacher.start(6), teacher.start(6)
    for gradient in gradients(3):
        answer, other = teacher(gradient, memory), teacher(gradient[order], permuted)
        assert torch.allclose(answer.step[order], other.step, rtol=1e-12)
        memory, permuted = answer.memory, other.memory
    assert torch.allclose(memory.hidden[order], permuted.hidden, rtol=1e-12)
    assert answer.step.abs().min() > 0.0


def test_a_zero_head_changes_nothing_but_remembers() -> None:
    teacher = CoordinateLstm()
    memory = teacher.start(5)
    answer = teacher(torch.randn(5), memory)
    assert answer.step.abs().max() == 0.0
    assert answer.memory.hidden.abs().max() > 0.0
    taught = TaughtLoss(teacher, None, window=2, values=torch.arange(5.0), memory=memory)
    taught.update(torch.randn(5))
    assert torch.equal(taught.values, torch.arange(5.0))


def test_the_same_gradient_gives_another_step_after_another_past() -> None:
    teacher, (first, second, again) = lively(), gradients(3)
    after = [teacher(again, teacher(past, teacher.start(6)).memory).step for past in (first, second)]
    assert (after[0] - after[1]).abs().max() > 1e-4
    plain = GradientDescent(rate=2.0)
    memoryless = [plain(again, plain(past, plain.start(6)).memory).step for past in (first, second)]
    assert torch.equal(*memoryless)
    assert torch.equal(memoryless[0], -2.0 * again)


def run_taught(teacher: CoordinateLstm, *, window: int, length: float = 1.0) -> list[Tensor]:
    """Parameters of the teacher after each of five gradients; its own are moved by SGD with rate 1."""
    optimizer = torch.optim.SGD(teacher.parameters(), lr=1.0)
    taught = TaughtLoss(
        teacher, optimizer, window=window, values=torch.zeros(6, dtype=torch.float64), memory=teacher.start(6)
    )
    seen = []
    for gradient in gradients(5) * length:
        taught.update(gradient)
        seen.append(nn.utils.parameters_to_vector(teacher.parameters()).detach().clone())
    return seen


def test_the_teacher_learns_when_the_effects_of_its_window_are_known() -> None:
    before = nn.utils.parameters_to_vector(lively().parameters()).detach()
    seen = run_taught(lively(), window=3)
    # the effect of a step is in the next gradient: of three steps in the fourth
    assert torch.equal(seen[0], before)
    assert torch.equal(seen[2], before)
    assert not torch.equal(seen[3], before)
    assert torch.equal(seen[3], seen[4])
    one = run_taught(lively(), window=1)
    assert [torch.equal(*pair) for pair in pairwise(one)] == [False] * 4


def test_a_long_gradient_of_the_teacher_is_shortened() -> None:
    before = nn.utils.parameters_to_vector(lively().parameters()).detach()
    moved = (run_taught(lively(), window=1, length=1e6)[1] - before).norm().item()
    assert moved == pytest.approx(1.0, rel=1e-6)


def unrolled_gradient(
    teacher: CoordinateLstm, effect: "list[Tensor]", starts: Tensor, window: int
) -> list[Tensor]:
    """d/dw of the sum over m of e_m(phi_m(w)), literally, with e_m(phi) = (phi . a_m)^2 / 2 + phi . b_m."""
    values, memory, total = starts, teacher.start(len(starts)), torch.zeros((), dtype=torch.float64)
    for m in range(window):
        gradient = derivative(effect[m], values.detach())
        answer = teacher(gradient, memory)
        values, memory = values + answer.step, answer.memory
        total = total + 0.5 * (values @ effect[m + 1]) ** 2 + values.sum()
    return list(torch.autograd.grad(total, list(teacher.parameters())))


def derivative(direction: Tensor, values: Tensor) -> Tensor:
    return (values @ direction) * direction + 1.0


def test_what_the_teacher_learns_is_the_gradient_of_the_losses_that_its_steps_led_to() -> None:
    """The account <g, phi> has the gradient of sum_m e_m(phi_m), through all of the window."""
    window, starts = 3, torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)
    effects = list(
        torch.randn(window + 1, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    )
    expected = unrolled_gradient(lively(), effects, starts, window)
    length = torch.cat([part.reshape(-1) for part in expected]).norm()
    teacher = lively()
    before = [parameter.detach().clone() for parameter in teacher.parameters()]
    optimizer = torch.optim.SGD(teacher.parameters(), lr=1.0)
    taught = TaughtLoss(teacher, optimizer, window=window, values=starts, memory=teacher.start(6))
    for effect in effects:
        taught.update(derivative(effect, taught.values))
    for parameter, former, part in zip(teacher.parameters(), before, expected, strict=True):
        shortened = part / max(float(length), 1.0)
        assert torch.allclose(former - parameter.detach(), shortened, rtol=1e-5, atol=1e-9)


def test_bad_settings_and_gradients() -> None:
    with pytest.raises(BadInput, match="scale 0"):
        CoordinateLstm(scale=0.0)
    with pytest.raises(BadInput, match="rate is -1"):
        GradientDescent(rate=-1.0)
    taught = TaughtLoss(
        GradientDescent(rate=1.0),
        None,
        window=1,
        values=torch.zeros(2),
        memory=Memory(torch.zeros(2, 0), torch.zeros(2, 0)),
    )
    with pytest.raises(RunFailed, match="gradient of the validation loss in the dynamic loss is not finite"):
        taught.update(torch.tensor([0.0, math.nan]))
