"""A narrow network started from a wide one."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.copy_average import (
    Neurons,
    best_partition,
    expected_loss,
    orthonormal_teacher,
    partition_point,
)
from wsi_kd.kd.copy_average_init import copy_average_init, importance, is_odd, narrow_network, refit


def erf(values: Tensor) -> Tensor:
    return torch.erf(values / math.sqrt(2.0))


def layers(neurons: Neurons) -> tuple[nn.Linear, nn.Linear]:
    hidden, inputs = neurons.weights.shape
    first = nn.Linear(inputs, hidden, bias=False, dtype=torch.float64)
    second = nn.Linear(hidden, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        first.weight.copy_(neurons.weights)
        second.weight.copy_(neurons.outgoing[None])
    return first, second


def neurons_of(first: nn.Linear, second: nn.Linear) -> Neurons:
    return Neurons(first.weight.detach(), second.weight.detach()[0])


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), activation()]
    return nn.Sequential(*parts[:-1])


def inputs(samples: int, width: int) -> Tensor:
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(1))


def error(narrow: nn.Module, wide: nn.Module, seen: Tensor) -> float:
    with torch.no_grad():
        target = wide(seen)
        return ((narrow(seen) - target).square().sum() / (target - target.mean(0)).square().sum()).item()


@pytest.mark.parametrize("width", range(1, 8))
def test_directions_are_those_of_the_best_partition(width):
    first, second = copy_average_init(*layers(orthonormal_teacher(7)), width, activation=erf)
    point = partition_point(best_partition(7, width))
    ours = torch.nn.functional.normalize(first.weight, dim=1)
    theirs = torch.nn.functional.normalize(point.weights, dim=1)
    # each average of ours lies along one of theirs; which neurons are copied is open among equals
    assert sorted(
        round(value, 6) for value in (ours @ torch.ones(7, dtype=torch.float64)).tolist()
    ) == sorted(round(value, 6) for value in (theirs @ torch.ones(7, dtype=torch.float64)).tolist())
    assert sorted(second.weight[0].tolist()) == pytest.approx([1.0] * (width - 1) + [8.0 - width])


def test_full_width_is_the_same_network():
    wide = mlp(6, 9, 4)
    first, second = copy_average_init(wide[0], wide[2], 9, activation=torch.relu)
    seen = inputs(50, 6)
    torch.testing.assert_close(second(torch.relu(first(seen))), wide(seen))


def test_duplicates_are_averaged_without_loss():
    first, second = nn.Linear(5, 4), nn.Linear(4, 3)
    with torch.no_grad():
        first.weight[2:] = first.weight[1]
        first.bias[2:] = first.bias[1]
        first.weight[0] *= 10.0
        second.weight[:, 1:] = second.weight[:, 1:2] * torch.tensor([1.0, 2.0, 0.5])
    narrow = copy_average_init(first, second, 2, activation=torch.relu)
    seen = inputs(50, 5)
    torch.testing.assert_close(narrow[1](torch.relu(narrow[0](seen))), second(torch.relu(first(seen))))


def test_neurons_that_pull_the_other_way_are_turned_where_the_activation_is_odd():
    first, second = nn.Linear(3, 2), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight[1], first.bias[1] = -first.weight[0], -first.bias[0]
        second.weight.copy_(torch.tensor([[2.0, -1.0]]))
    seen = inputs(40, 3)
    narrow = copy_average_init(first, second, 1, activation=torch.tanh)
    torch.testing.assert_close(narrow[1](torch.tanh(narrow[0](seen))), second(torch.tanh(first(seen))))
    left_out = copy_average_init(first, second, 1, activation=torch.relu)
    torch.testing.assert_close(left_out[0].weight[0], first.weight[0])
    assert left_out[1].weight.item() == pytest.approx(2.0)


def test_fit_lowers_the_error_of_a_trained_like_network():
    wide, seen = mlp(12, 32, 5), inputs(400, 12)
    plain = nn.Sequential(*_with_activation(copy_average_init(wide[0], wide[2], 8, activation=torch.relu)))
    fitted = nn.Sequential(
        *_with_activation(copy_average_init(wide[0], wide[2], 8, activation=torch.relu, calibration=seen))
    )
    fresh = torch.randn(400, 12, generator=torch.Generator().manual_seed(2))
    assert error(fitted, wide, fresh) < error(plain, wide, fresh)


def _with_activation(pair: tuple[nn.Linear, nn.Linear]) -> tuple[nn.Module, ...]:
    return pair[0], nn.ReLU(), pair[1]


def test_refit_is_least_squares_up_to_its_ridge():
    hidden = inputs(300, 6)
    target = hidden @ inputs(6, 2) + torch.tensor([3.0, -1.0])
    layer = nn.Linear(6, 2)
    refit(layer, hidden, target)
    torch.testing.assert_close(layer(hidden), target, rtol=0.02, atol=0.02)
    assert layer.bias.tolist() == pytest.approx([3.0, -1.0], abs=0.02)


def test_refit_of_dead_neurons_is_finite():
    layer = nn.Linear(3, 1, bias=False)
    refit(layer, torch.zeros(10, 3), torch.ones(10, 1))
    assert layer.weight.tolist() == [[0.0, 0.0, 0.0]]


def test_importance_with_inputs_sees_neurons_that_never_fire():
    first, second = nn.Linear(4, 3), nn.Linear(3, 2)
    with torch.no_grad():
        first.bias[1] = -100.0
    found = importance(first, second, activation=torch.relu, inputs=inputs(64, 4))
    assert found[1] == 0
    assert (found[[0, 2]] > 0).all()


def test_deep_network_is_narrowed_layer_by_layer():
    wide, seen = mlp(10, 24, 20, 16, 4, activation=nn.Tanh), inputs(500, 10)
    before = [parameter.clone() for parameter in wide.parameters()]
    narrow = narrow_network(wide, [12, 10, 8], calibration=seen)
    assert [layer.out_features for layer in narrow if isinstance(layer, nn.Linear)] == [12, 10, 8, 4]
    assert error(narrow, wide, torch.randn(500, 10, generator=torch.Generator().manual_seed(2))) < 0.2
    assert all(torch.equal(old, new) for old, new in zip(before, wide.parameters(), strict=True))
    narrow(seen).sum().backward()  # what is made can be trained on


def test_network_between_other_layers_keeps_them():
    wide = nn.Sequential(
        nn.LayerNorm(6), nn.Linear(6, 12), nn.GELU(), nn.Dropout(0.9), nn.Linear(12, 3), nn.Sigmoid()
    )
    narrow = narrow_network(wide, 5, calibration=inputs(100, 6))
    assert [type(part).__name__ for part in narrow] == [type(part).__name__ for part in wide]
    assert narrow.training == wide.training


@pytest.mark.parametrize(
    ("activation", "odd"), [(torch.tanh, True), (erf, True), (torch.relu, False), (nn.GELU(), False)]
)
def test_odd_activations_are_known(activation, odd):
    assert is_odd(activation) is odd


def test_loss_at_the_start_is_far_below_that_of_copies_alone():
    teacher = orthonormal_teacher(12)
    wide = layers(teacher)
    seen = torch.randn(20_000, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    narrow = copy_average_init(*wide, 5, activation=erf, calibration=seen)
    copies = Neurons(teacher.weights[:5], teacher.outgoing[:5])
    nothing = expected_loss(Neurons(teacher.weights[:1], torch.zeros(1, dtype=torch.float64)), teacher)
    assert expected_loss(neurons_of(*narrow), teacher) / nothing < 0.06
    assert expected_loss(copies, teacher) / nothing > 0.5


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda wide: copy_average_init(wide[0], wide[2], 10, activation=torch.relu), "expected 1 to 9"),
        (lambda wide: copy_average_init(wide[0], wide[2], 0, activation=torch.relu), "expected 1 to 9"),
        (lambda wide: narrow_network(wide, 10, calibration=torch.zeros(4, 6)), "expected 1 to 9"),
        (lambda wide: copy_average_init(wide[0], wide[0], 2, activation=torch.relu), "follow each other"),
        (lambda wide: narrow_network(wide, 3, calibration=torch.zeros(4, 5)), r"expected \(samples, 6\)"),
        (lambda wide: narrow_network(wide, 3, calibration=torch.full((4, 6), math.nan)), "not finite"),
        (lambda wide: narrow_network(wide, [3, 3], calibration=torch.zeros(4, 6)), "2 widths"),
        (lambda wide: narrow_network(wide[:1], 3, calibration=torch.zeros(4, 6)), "no hidden layer"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask(mlp(6, 9, 4))


def test_layers_that_mix_neurons_are_refused():
    network = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))
    with pytest.raises(BadInput, match="layer 1 of the network is BatchNorm1d"):
        narrow_network(network, 3, calibration=torch.zeros(4, 6))
