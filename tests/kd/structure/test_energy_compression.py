"""The energy model's two losses and its samplers, where the answer is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.energy_compression import (
    GridSampler,
    ImageEnergy,
    LangevinSampler,
    VectorEnergy,
    VEMLoss,
)


class Quadratic(nn.Module):
    """E(t, s) = |t - w s|^2 / (2 v)."""

    def __init__(self, weight: float = 0.0, variance: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.variance = variance

    def forward(self, outputs: Tensor, student: Tensor) -> Tensor:
        return (outputs - self.weight * student).square().flatten(1).sum(dim=1) / (2.0 * self.variance)


def pairs(samples: int = 12, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (
        torch.rand(samples, 2, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2)
    )
    return teacher, student


def vem(*, normalize: bool = False, energy_l2: float = 0.0) -> VEMLoss:
    torch.manual_seed(0)
    return VEMLoss(
        VectorEnergy(2, hidden=8, normalize=normalize).double(), GridSampler(9), energy_l2=energy_l2
    )


def every_grid_point(loss: VEMLoss, student: Tensor) -> tuple[Tensor, Tensor]:
    """Return q over the grid and the grid, so that an expectation over samples can be taken exactly."""
    sampler = loss.sampler
    assert isinstance(sampler, GridSampler)
    with torch.no_grad():
        return sampler._log_cells(loss.energy, student).exp(), sampler._grid(student)


def expected(loss: VEMLoss, part: str, teacher: Tensor, student: Tensor) -> Tensor:
    """Return a loss with the mean over samples replaced by the expectation under q."""
    probabilities, grid = every_grid_point(loss, student)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(student)):
        for place, point in enumerate(grid):
            one = getattr(loss, part)(teacher[row : row + 1], student[row : row + 1], point[None])
            total = total + probabilities[row, place] * one
    return total / len(student)


def test_contrast_has_the_gradient_of_the_log_likelihood_for_the_energy():
    loss, (teacher, student) = vem(), pairs(4)
    sampler = loss.sampler
    assert isinstance(sampler, GridSampler)
    parameters = list(loss.energy.parameters())
    exact = torch.autograd.grad(-sampler.log_density(loss.energy, teacher, student).mean(), parameters)
    found = torch.autograd.grad(expected(loss, "energy_loss", teacher, student), parameters)
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_contrast_has_the_gradient_of_the_log_likelihood_for_the_student():
    loss, (teacher, student) = vem(), pairs(4)
    sampler = loss.sampler
    assert isinstance(sampler, GridSampler)
    student.requires_grad_()
    (exact,) = torch.autograd.grad(-sampler.log_density(loss.energy, teacher, student).mean(), student)
    (found,) = torch.autograd.grad(expected(loss, "student_loss", teacher, student), student)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-13)


def test_density_on_the_grid_sums_to_one_and_ignores_what_only_the_student_says():
    teacher, student = pairs(6)
    energy, sampler = Quadratic(0.3), GridSampler(15)
    grid = sampler._grid(student)
    density = torch.stack([sampler.log_density(energy, point.expand(6, 2), student).exp() for point in grid])
    torch.testing.assert_close(density.sum(dim=0) * (2 / 15) ** 2, torch.ones(6, dtype=torch.float64))

    class Shifted(Quadratic):
        def forward(self, outputs: Tensor, student: Tensor) -> Tensor:
            return super().forward(outputs, student) + 5.0 * student[:, 0] ** 2

    torch.testing.assert_close(
        sampler.log_density(Shifted(0.3), teacher, student), sampler.log_density(energy, teacher, student)
    )


def test_bound_is_the_information_of_a_gaussian_pair():
    """With E = (t - rho s)^2 / (2 (1 - rho^2)) it is tight, -ln(1 - rho^2) / 2; a wrong slope lowers it."""
    rho, generator = 0.8, torch.Generator().manual_seed(0)
    student = torch.randn(200_000, generator=generator, dtype=torch.float64)
    teacher = rho * student + math.sqrt(1 - rho**2) * torch.randn(
        200_000, generator=generator, dtype=torch.float64
    )
    entropy = 0.5 * math.log(2 * math.pi * math.e)

    def bound(slope: float) -> float:
        variance = 1 - 2 * slope * rho + slope**2
        energies = (teacher - slope * student).square() / (2 * variance)
        return entropy + (-energies.mean().item() - 0.5 * math.log(2 * math.pi * variance))

    information = -0.5 * math.log(1 - rho**2)
    assert bound(rho) == pytest.approx(information, abs=0.01)
    assert bound(0.4) < information - 0.1


def test_consistent_chain_has_the_variance_of_its_step_and_the_reference_a_far_smaller_one():
    step, variance = 0.05, 0.05
    start = torch.zeros(20_000, 1, dtype=torch.float64)
    energy = Quadratic(0.0, variance)
    chain = LangevinSampler.consistent(step / 10, steps=200)
    ends = chain(energy, start, generator=torch.Generator().manual_seed(0))
    step = step / 10
    assert ends.var().item() == pytest.approx(variance / (1 - step / (4 * variance)), rel=0.03)
    eta, sigma = 0.0025, 0.005
    reference = LangevinSampler.reference(eta=eta, sigma=sigma, steps=400)
    ends = reference(energy, start, generator=torch.Generator().manual_seed(0))
    assert ends.var().item() == pytest.approx(sigma**2 / (1 - (1 - eta / variance) ** 2), rel=0.03)


def test_chains_start_at_the_student_stay_in_range_and_are_repeatable():
    _, student = pairs(30)
    energy = Quadratic(1.0)
    none = LangevinSampler(1.0, 1.0, steps=0)
    assert torch.equal(none(energy, student, generator=torch.Generator()), student)
    wild = LangevinSampler.consistent(4.0)
    first, again = (wild(energy, student, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.abs().max() <= 1.0
    assert not first.requires_grad


def test_grid_samples_follow_q():
    student = torch.zeros(20_000, 2, dtype=torch.float64)
    drawn = GridSampler(21)(Quadratic(0.0, 0.05), student, generator=torch.Generator().manual_seed(0))
    assert drawn.mean().abs().item() < 0.01
    assert drawn.var().item() == pytest.approx(0.05, rel=0.05)


def test_nothing_reaches_who_is_not_to_learn():
    loss, (teacher, student) = vem(energy_l2=0.1), pairs()
    teacher.requires_grad_()
    student.requires_grad_()
    samples = loss.sample(student)
    assert not samples.requires_grad
    loss.energy_loss(teacher, student, samples).backward()
    assert teacher.grad is None
    assert student.grad is None
    assert all(parameter.grad is not None for parameter in loss.energy.parameters())
    loss.energy.zero_grad()
    loss.student_loss(teacher, student, samples).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert all(parameter.grad is None for parameter in loss.energy.parameters())


def test_image_energy_takes_images_and_bounds_its_slope():
    torch.manual_seed(0)
    energy = ImageEnergy(3, hidden=8, depth=2)
    first, second = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    assert energy(first, second).shape == (2,)
    loss = VEMLoss(energy, LangevinSampler.consistent(1e-3, steps=2))
    student = second.requires_grad_()
    loss.student_loss(first, student, loss.sample(student)).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda: LangevinSampler.consistent(0.0), BadInput, "above 0"),
        (lambda: VEMLoss(nn.Identity(), GridSampler(), energy_l2=-1.0), BadInput, "energy_l2 -1"),
        (lambda: vem().sample(torch.zeros(3, 3, dtype=torch.float64)), BadInput, r"for \(samples, 2\)"),
        (
            lambda: vem().energy_loss(torch.zeros(3, 2), torch.zeros(3, 4), torch.zeros(3, 4)),
            BadInput,
            "the same shape",
        ),
        (
            lambda: vem().student_loss(torch.zeros(3, 2), torch.zeros(3, 4), torch.zeros(3, 4)),
            BadInput,
            "the same shape",
        ),
        (
            lambda: vem().energy_loss(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2, 2)),
            BadInput,
            "draw them in the same step",
        ),
        (
            lambda: vem().student_loss(*pairs(), torch.full((12, 2), math.nan, dtype=torch.float64)),
            RunFailed,
            "energies are not finite",
        ),
        (
            lambda: GridSampler(5)(Quadratic(math.nan), torch.zeros(3, 2), generator=torch.Generator()),
            RunFailed,
            "energies are not finite",
        ),
        (
            lambda: GridSampler(5).log_density(Quadratic(math.nan), torch.zeros(3, 2), torch.zeros(3, 2)),
            RunFailed,
            "energies are not finite",
        ),
        (
            lambda: vem().energy_loss(*pairs(), torch.full((12, 2), math.nan, dtype=torch.float64)),
            RunFailed,
            "energies are not finite",
        ),
        (
            lambda: LangevinSampler.consistent(0.1)(
                Quadratic(math.nan), torch.zeros(3, 2), generator=torch.Generator()
            ),
            RunFailed,
            "gradient is not finite",
        ),
    ],
)
def test_what_cannot_be_is_refused(ask, error, says):
    with pytest.raises(error, match=says):
        ask()
