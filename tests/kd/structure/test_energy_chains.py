"""Annealed and persistent chains, where their distribution is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.energy_chains import AnnealedSampler, PersistentSampler, Step, tempered_steps
from wsi_kd.kd.energy_compression import GridSampler, LangevinSampler, Sampler, VectorEnergy, VEMLoss

VARIANCE = 0.05


class Quadratic(nn.Module):
    """E(t, s) = |t - s|^2 / (2 v)."""

    def __init__(self, variance: float = VARIANCE) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, outputs: Tensor, student: Tensor) -> Tensor:
        return (outputs - student).square().flatten(1).sum(dim=1) / (2.0 * self.variance)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def visited(sampler: PersistentSampler, student: Tensor, *, visits: int, seed: int = 0) -> Tensor:
    generator, energy = seeded(seed), Quadratic()
    ends = student
    for _ in range(visits):
        sampler.expect(torch.arange(len(student)))
        ends = sampler(energy, student, generator=generator)
    return ends


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_persistent_chains_have_the_variance_of_their_step_where_short_ones_do_not(temperature):
    """A step h on a quadratic energy of variance v gives v / (1 - h / (4 v)); v is scaled by temperature."""
    chains, step, target = 20_000, 0.005, VARIANCE * temperature
    steps = tempered_steps(step, step, count=4, temperature=temperature)
    student = torch.zeros(chains, 1, dtype=torch.float64)
    ends = visited(PersistentSampler(steps, rows=chains), student, visits=50)
    assert ends.var().item() == pytest.approx(target / (1 - step / (4 * target)), rel=0.03)
    cut = AnnealedSampler(steps)(Quadratic(), student, generator=seeded())
    assert cut.var().item() < 0.7 * target


def test_restarts_pull_the_variance_back_to_young_chains():
    """With a share r restarted ages are geometric, and the variance is a sum over them."""
    step, restart, chains = 0.01, 0.25, 40_000
    shrink = (1 - step / (2 * VARIANCE)) ** 2
    expected = step / (1 - (1 - restart) * shrink)  # sum over age of h shrink^age (1 - r)^age
    sampler = PersistentSampler([Step(step / 2, step**0.5)], rows=chains, restart=restart)
    ends = visited(sampler, torch.zeros(chains, 1, dtype=torch.float64), visits=60)
    assert ends.var().item() == pytest.approx(expected, rel=0.03)
    assert sampler.visits.double().mean().item() == pytest.approx(1 / restart, rel=0.03)


def test_each_row_goes_on_with_its_own_chain():
    still = PersistentSampler([Step(0.0, 0.0)], rows=5)  # a chain that does not move shows where it began
    first, second = torch.rand(2, 2, 3), torch.rand(2, 2, 3)
    still.expect(torch.tensor([3, 1]))
    assert torch.equal(still(Quadratic(), first, generator=seeded()), first)
    still.expect(torch.tensor([1, 4]))
    ends = still(Quadratic(), second, generator=seeded())
    assert torch.equal(ends[0], first[1])  # kept, though the student says something else now
    assert torch.equal(ends[1], second[1])  # new: begins at the student's output
    assert still.visits.tolist() == [0, 2, 0, 1, 1]


def test_always_restarted_chains_are_the_plain_ones_and_seeds_repeat_them():
    student = torch.rand(6, 2, dtype=torch.float64, generator=seeded()) - 0.5
    steps = tempered_steps(0.01, 0.01, count=3)
    restarted = PersistentSampler(steps, rows=6, restart=1.0)
    restarted.expect(torch.arange(6))
    generator = seeded(5)
    torch.rand(6, generator=generator)  # what the restarts are drawn with
    plain = LangevinSampler.consistent(0.01, steps=3)(Quadratic(), student, generator=generator)
    torch.testing.assert_close(restarted(Quadratic(), student, generator=seeded(5)), plain)
    first, again, other = (
        visited(PersistentSampler(steps, rows=6, restart=0.3), student, visits=4, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_annealed_chains_end_with_the_variance_of_their_small_steps():
    student = torch.zeros(20_000, 1, dtype=torch.float64)
    large, last = 0.15, 0.001
    annealed = AnnealedSampler(tempered_steps(large, last, count=60))(
        Quadratic(), student, generator=seeded()
    )
    assert annealed.var().item() == pytest.approx(VARIANCE, rel=0.08)
    # all steps as large as the first, and all as small as the last, are both far off
    coarse, short = (
        AnnealedSampler(tempered_steps(step, step, count=60))(Quadratic(), student, generator=seeded())
        for step in (large, last)
    )
    assert coarse.var().item() > 2 * VARIANCE
    assert short.var().item() == pytest.approx(VARIANCE * (1 - (1 - last / (2 * VARIANCE)) ** 120), rel=0.03)


def test_chains_stay_in_range_without_gradient_and_serve_both_losses():
    torch.manual_seed(0)
    sampler = PersistentSampler(tempered_steps(4.0, 1.0, count=2), rows=9)
    assert isinstance(sampler, Sampler)
    assert isinstance(AnnealedSampler(sampler.steps), Sampler)
    loss = VEMLoss(VectorEnergy(2, hidden=8), sampler)
    teacher, student = torch.rand(4, 2), torch.rand(4, 2).requires_grad_()
    sampler.expect(torch.tensor([0, 8, 2, 5]))
    samples = loss.sample(student)
    assert samples.abs().max() <= 1.0
    assert not samples.requires_grad
    loss.energy_loss(teacher, student, samples).backward()
    loss.student_loss(teacher, student, samples).backward()
    assert student.grad is not None
    assert student.grad.abs().max() > 0


def expecting(rows: list[int], student: Tensor, *, energy: nn.Module | None = None) -> Tensor:
    sampler = PersistentSampler([Step(0.1, 0.1)], rows=4)
    sampler.expect(torch.tensor(rows))
    return sampler(energy or Quadratic(), student, generator=seeded())


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda: tempered_steps(0.01, 0.02, count=3), BadInput, "none that rises"),
        (lambda: tempered_steps(0.01, 0.0, count=3), BadInput, "above 0"),
        (lambda: tempered_steps(0.01, 0.01, count=3, temperature=0.0), BadInput, "temperature 0"),
        (lambda: PersistentSampler([], rows=3), BadInput, "0 steps"),
        (lambda: PersistentSampler([Step(1.0, 1.0)], rows=0), BadInput, "0 rows"),
        (lambda: PersistentSampler([Step(1.0, 1.0)], rows=3, restart=1.5), BadInput, "1.5"),
        (lambda: expecting([0, 4], torch.zeros(2, 2)), BadInput, "rows 0 to 3"),
        (lambda: expecting([1, 1], torch.zeros(2, 2)), BadInput, "comes twice"),
        (lambda: expecting([1, 2, 3], torch.zeros(2, 2)), BadInput, "3 rows announced for 2"),
        (
            lambda: PersistentSampler([Step(1.0, 1.0)], rows=3)(
                Quadratic(), torch.zeros(2, 2), generator=seeded()
            ),
            BadInput,
            "no rows announced",
        ),
        (
            lambda: expecting([0, 1], torch.zeros(2, 2), energy=Quadratic(math.nan)),
            RunFailed,
            "gradient is not finite",
        ),
        (
            lambda: AnnealedSampler((Step(0.1, 0.1),))(
                Quadratic(math.nan), torch.zeros(2, 2), generator=seeded()
            ),
            RunFailed,
            "gradient is not finite",
        ),
    ],
)
def test_what_cannot_be_is_refused(ask, error, says):
    with pytest.raises(error, match=says):
        ask()


def test_failed_visit_leaves_chains_as_they_were_and_other_sizes_are_refused():
    sampler = PersistentSampler([Step(0.0, 0.0)], rows=2)
    kept = torch.full((2, 3), 0.25)
    rows = torch.arange(2)
    sampler.expect(rows)
    sampler(Quadratic(), kept, generator=seeded())
    sampler.expect(rows)
    with pytest.raises(RunFailed):
        sampler(Quadratic(math.nan), kept, generator=seeded())
    sampler.expect(rows)
    assert torch.equal(sampler(Quadratic(), torch.zeros(2, 3), generator=seeded()), kept)
    assert sampler.visits.tolist() == [2, 2]
    sampler.expect(rows)
    with pytest.raises(BadInput, match="outputs of one size"):
        sampler(Quadratic(), torch.zeros(2, 5), generator=seeded())


def test_grid_samples_and_chains_at_rest_agree():
    """The grid is exact: chains of one energy that couples both outputs find its variance."""

    class Coupled(nn.Module):
        def forward(self, outputs: Tensor, student: Tensor) -> Tensor:
            first, second = outputs.unbind(dim=1)
            return (first.square() + second.square() - 1.2 * first * second) / (2 * VARIANCE * 0.64)

    student = torch.zeros(4_000, 2, dtype=torch.float64)
    sampler = PersistentSampler(tempered_steps(0.004, 0.004, count=4), rows=len(student))
    generator = seeded()
    for _ in range(60):
        sampler.expect(torch.arange(len(student)))
        chains = sampler(Coupled(), student, generator=generator)
    exact = GridSampler(41)(Coupled(), student, generator=generator)
    torch.testing.assert_close(torch.cov(chains.T), torch.cov(exact.T), rtol=0.12, atol=0.004)
