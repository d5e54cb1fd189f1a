"""The closed form of least squares against simulation, and its weight against the numeric optimum."""

import copy

import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.least_squares import LeastSquares, full_gradient_error, sgd_variance, stationary_covariance
from wsi_kd.kd.variance_reduction import DistillationGradient
from wsi_kd.kd.variance_weight import IterateSpread, optimal_weight, stationary_error

STEP_SIZE = 0.05
CHAINS = 1000


def drawn_problem(samples=60, dimension=3):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, dimension, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, generator=generator, dtype=torch.float64)
    return LeastSquares(inputs, inputs.sum(dim=1) + noise)


def simulate(problem, *, teacher, weight, batch_size=1, full=False, steps=800, burn_in=300):
    """Mean over chains and steps of ||x - x*||^2, the gradient written out."""
    generator = torch.Generator().manual_seed(1)
    optimum, total = problem.optimum, 0.0
    x = optimum.expand(CHAINS, -1).clone()
    theirs = problem.gradients(teacher)
    given_back = theirs.mean(dim=0) if full else torch.zeros_like(teacher)
    for step in range(steps):
        rows = torch.randint(len(problem.inputs), (CHAINS, batch_size), generator=generator)
        a, b = problem.inputs[rows], problem.targets[rows]
        own = (a * ((a * x[:, None, :]).sum(dim=-1) - b)[..., None]).mean(dim=1)
        x = x - STEP_SIZE * (own - weight * (theirs[rows].mean(dim=1) - given_back))
        if step >= burn_in:
            total += (x - optimum).square().sum(dim=1).mean().item()
    return total / (steps - burn_in)


@pytest.fixture(scope="module")
def problem():
    return drawn_problem()


@pytest.fixture(scope="module")
def teacher(problem):
    return problem.optimum + torch.tensor([0.2, -0.1, 0.15], dtype=torch.float64)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_closed_form_is_what_a_simulation_gives(problem, teacher, weight, batch_size):
    variance = sgd_variance(problem, step_size=STEP_SIZE, batch_size=batch_size)
    distance = (teacher - problem.optimum).square().sum().item()

    found = simulate(problem, teacher=teacher, weight=weight, batch_size=batch_size)

    assert found == pytest.approx(stationary_error(weight, variance=variance, distance=distance), rel=0.02)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_full_gradient_s_closed_form_is_what_a_simulation_gives(problem, teacher, weight):
    expected = full_gradient_error(problem, teacher, weight=weight, step_size=STEP_SIZE, batch_size=2)

    found = simulate(problem, teacher=teacher, weight=weight, batch_size=2, full=True)

    assert found == pytest.approx(expected, rel=0.02)


def test_one_dimension_is_worked_by_hand():
    """a = 1, b = -1 or 1: x* = 0, and C = s^2 / (2 s - s^2) = s / (2 - s)."""
    problem = LeastSquares(torch.ones(2, 1, dtype=torch.float64), torch.tensor([-1.0, 1.0]).double())

    assert sgd_variance(problem, step_size=0.5) == pytest.approx(0.5 / 1.5)
    assert sgd_variance(problem, step_size=0.5, batch_size=4) == pytest.approx(0.5 / 1.5 / 4)
    # a teacher sees the same noise wherever it is, so its full gradient takes away all of it
    assert full_gradient_error(problem, torch.tensor([7.0]).double(), weight=1.0, step_size=0.5) < 1e-30


def test_a_covariance_is_symmetric_and_nothing_without_noise(problem):
    covariance = stationary_covariance(problem, step_size=STEP_SIZE, batch_size=2)

    torch.testing.assert_close(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > 0.0
    exact = LeastSquares(problem.inputs, problem.inputs @ problem.optimum)
    assert sgd_variance(exact, step_size=STEP_SIZE) < 1e-25


def test_the_full_gradient_of_weight_0_is_sgd(problem, teacher):
    found = full_gradient_error(problem, teacher, weight=0.0, step_size=STEP_SIZE)
    assert found == pytest.approx(sgd_variance(problem, step_size=STEP_SIZE), rel=1e-12)


def test_the_weight_is_where_the_error_is_least():
    variance, distance = 0.12, 0.034
    weights = torch.linspace(0.0, 1.0, 100_001, dtype=torch.float64)
    errors = weights**2 * distance + (1.0 - weights) ** 2 * variance
    best = optimal_weight(variance, distance)

    assert best == pytest.approx(weights[errors.argmin()].item(), abs=1e-5)
    least = stationary_error(best, variance=variance, distance=distance)
    assert least == pytest.approx(errors.min().item(), abs=1e-10)
    assert least < min(variance, distance)
    assert least == pytest.approx(variance * distance / (variance + distance))


def test_weights_at_the_limits():
    assert optimal_weight(0.3, 0.0) == 1.0  # a perfect teacher
    assert optimal_weight(0.0, 0.3) == 0.0  # nothing to take away
    assert optimal_weight(0.3, 0.3) == 0.5  # a teacher that is another iterate


def test_the_measured_spread_gives_the_closed_form_s_weight(problem):
    """With torch's SGD on a module, as a user would: V, D and the weight."""
    generator = torch.Generator().manual_seed(5)
    student, theirs = (nn.Linear(3, 1, bias=False, dtype=torch.float64) for _ in range(2))
    student.weight.data[0] = problem.optimum
    theirs.weight.data[0] = problem.optimum + torch.tensor([0.2, -0.1, 0.15], dtype=torch.float64)
    optimizer = torch.optim.SGD(student.parameters(), lr=STEP_SIZE)
    spread = IterateSpread(student)
    for _ in range(6000):
        row = torch.randint(len(problem.inputs), (1,), generator=generator)
        optimizer.zero_grad()
        (0.5 * (student(problem.inputs[row])[:, 0] - problem.targets[row]).square().mean()).backward()
        optimizer.step()
        spread.update()

    variance = sgd_variance(problem, step_size=STEP_SIZE)
    assert spread.variance == pytest.approx(variance, rel=0.1)
    assert spread.distance(theirs) == pytest.approx(0.0725, rel=0.15)
    assert spread.weight(theirs) == pytest.approx(optimal_weight(variance, 0.0725), abs=0.03)


def test_a_student_at_a_perfect_teacher_stays_there(problem):
    """theta = x*, weight 1: the noise is gone, step by step."""
    teacher = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    teacher.weight.data[0] = problem.optimum
    student = copy.deepcopy(teacher)
    optimizer = torch.optim.SGD(student.parameters(), lr=STEP_SIZE)
    reduced = DistillationGradient(
        student, teacher, weight=1.0, objective=lambda given, wanted: (given[:, 0] - wanted).square().mean()
    )
    for row in range(60):
        optimizer.zero_grad()
        reduced(problem.inputs[[row]], problem.targets[[row]]).backward()
        optimizer.step()

    assert torch.equal(student.weight, teacher.weight)


def test_bad_input_is_told(problem):
    with pytest.raises(BadInput, match="SGD diverges"):
        sgd_variance(problem, step_size=1.0)
    with pytest.raises(BadInput, match="dimension 41"):
        sgd_variance(LeastSquares(torch.eye(41).double(), torch.ones(41).double()), step_size=0.1)
    with pytest.raises(BadInput, match="batch_size 0"):
        sgd_variance(problem, step_size=0.1, batch_size=0)
    with pytest.raises(BadInput, match=r"V is -1\.0"):
        optimal_weight(-1.0, 0.5)
    with pytest.raises(BadInput, match="any weight"):
        optimal_weight(0.0, 0.0)
    with pytest.raises(BadInput, match="D is nan"):
        stationary_error(0.5, variance=0.1, distance=float("nan"))
    spread = IterateSpread(nn.Linear(2, 1))
    spread.update()
    with pytest.raises(BadInput, match="1 iterates"):
        _ = spread.variance
    with pytest.raises(BadInput, match="parameters differ"):
        spread.distance(nn.Linear(3, 1))
