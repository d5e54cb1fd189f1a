"""What a network costs, by hand; times by a clock that is told what to say."""

from collections.abc import Callable

import pytest
import torch
from distillation_parts import INPUTS, make_network, same, weights_of
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.cost import Cost, count_parameters, measure_cost


def clock_of(*durations: float) -> Callable[[], float]:
    """A clock by which the calls take these seconds."""
    ticks, now = [], 0.0
    for duration in durations:
        ticks += [now, now + duration]
        now += duration + 100.0
    return iter(ticks).__next__


def test_costs_are_worked_by_hand() -> None:
    """Linear 4x5 + 5, batch norm 5 + 5 with 5 + 5 averages and a count of 8 bytes, linear 5x3 + 3."""
    network, inputs = make_network(0), torch.zeros(10, INPUTS)
    clock = clock_of(50.0, 40.0, 0.3, 0.1, 0.2)
    found = measure_cost(network, inputs, calls=3, warm_up=2, clock=clock)
    assert found == Cost(53, 53 * 4 + 10 * 4 + 8, pytest.approx(200.0), pytest.approx(50.0))
    assert count_parameters(network) == 53


def test_halves_take_half_and_tied_weights_count_once() -> None:
    linear = nn.Linear(8, 8, bias=False)
    tied = nn.Sequential(linear, nn.ReLU(), linear)
    inputs = torch.zeros(1, 8)
    assert measure_cost(tied, inputs, calls=1, warm_up=0)[:2] == (64, 256)
    assert measure_cost(tied.half(), inputs.half(), calls=1, warm_up=0)[:2] == (64, 128)
    assert measure_cost(tied.requires_grad_(requires_grad=False), inputs.half(), calls=1).parameters == 64


def test_the_network_is_left_as_it_was() -> None:
    network = make_network(0).train()
    before, threads = weights_of(network), torch.get_num_threads()
    runs = []
    network[0].register_forward_hook(
        lambda module, inputs, output: runs.append((module.training, torch.get_num_threads()))
    )
    cost = measure_cost(network, torch.randn(6, INPUTS), calls=4, warm_up=3, threads=2)
    assert runs == [(False, 2)] * 7
    assert network.training
    assert network[1].training
    assert same(weights_of(network), before)
    assert torch.get_num_threads() == threads
    assert cost.latency_ms > 0.0
    assert cost.samples_per_s == pytest.approx(6.0 / (cost.latency_ms / 1e3))


def test_wrappers_and_inputs_of_any_form() -> None:
    class Difference(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first - second

    pair = (torch.ones(4, 2), torch.ones(4, 2))
    named = {"first": pair[0], "second": pair[1]}
    for inputs in (pair, named):
        found = measure_cost(Difference(), inputs, calls=1, warm_up=0, clock=clock_of(0.5))
        assert found == Cost(0, 0, 500.0, 8.0)
    bag = torch.ones(300, INPUTS)
    wrapped = nn.DataParallel(make_network(0))
    found = measure_cost(wrapped, bag, samples=1, calls=1, warm_up=0, clock=clock_of(0.25))
    assert found[2:] == (250.0, 4.0)


def test_a_slow_network_is_told_from_a_fast_one() -> None:
    inputs = torch.zeros(64, 256)
    small, large = nn.Linear(256, 1), nn.Sequential(*(nn.Linear(256, 256) for _ in range(24)))
    ratio = measure_cost(large, inputs).latency_ms / measure_cost(small, inputs).latency_ms
    assert ratio > 4.0


@pytest.mark.parametrize(
    ("inputs", "settings", "told"),
    [
        (torch.zeros(1, INPUTS), {"calls": 0}, "0 calls, 5 before them, 1 threads"),
        (torch.zeros(1, INPUTS), {"threads": 0}, "0 threads"),
        (torch.zeros(1, INPUTS), {"warm_up": -1}, "-1 before them"),
        (
            torch.zeros(()),
            {},
            r"inputs are float32 tensor \(\), whose samples cannot be counted; pass samples=",
        ),
        (torch.zeros(0, INPUTS), {}, "cannot be counted"),
        ("text", {}, "inputs are str"),
    ],
)
def test_what_cannot_be_measured(inputs: object, settings: dict[str, int], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        measure_cost(make_network(0), inputs, **settings)
