"""Layers are heard by name, exactly once a pass, and left as they were."""

import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.taps import LayerTaps, unwrap


class Residual(nn.Module):
    """A block that changes its tensors in place, calls one activation twice and has an idle layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.activation = nn.ReLU(inplace=True)
        self.idle = nn.Linear(3, 3)
        self.twin = self.first

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.activation(self.first(inputs))
        hidden = self.second(hidden)
        hidden += inputs
        return self.activation(hidden)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def network() -> Residual:
    torch.manual_seed(0)
    return Residual()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def heard(model: nn.Module, names: list[str], inputs: Tensor) -> dict[str, Tensor]:
    with LayerTaps(model, names) as taps:
        model(inputs)
        return taps.take()


def test_outputs_are_those_that_left_the_layer(network: Residual, inputs: Tensor) -> None:
    """Behind both linear layers the tensor is changed in place."""
    found = heard(network, ["first", "second"], inputs)
    expected = network.first(inputs)
    assert (expected < 0).any()
    assert torch.equal(found["first"], expected)
    assert torch.equal(found["second"], network.second(expected.relu()))


def test_gradients_flow_through_a_tap(network: Residual, inputs: Tensor) -> None:
    heard(network, ["first"], inputs)["first"].sum().backward()
    assert network.first.bias.grad is not None
    assert network.first.bias.grad.tolist() == [4.0, 4.0, 4.0]


def test_a_tap_changes_nothing(network: Residual, inputs: Tensor) -> None:
    plain = network(inputs)
    with LayerTaps(network, ["first", "activation@0"]):
        assert torch.equal(network(inputs), plain)


def test_two_names_of_one_module_are_both_heard(network: Residual, inputs: Tensor) -> None:
    found = heard(network, ["first", "twin"], inputs)
    assert torch.equal(found["first"], found["twin"])
    assert torch.equal(found["twin"], network.first(inputs))


def test_a_layer_that_runs_twice_is_told_by_the_run(network: Residual, inputs: Tensor) -> None:
    found = heard(network, ["activation@0", "activation@1"], inputs)
    assert torch.equal(found["activation@0"], network.first(inputs).relu())
    assert torch.equal(found["activation@1"], network(inputs))
    with pytest.raises(BadInput, match=r"ran 2 times in one forward pass.*'activation@0' to 'activation@1'"):
        heard(network, ["activation"], inputs)
    with pytest.raises(BadInput, match=r"layer 'activation@2' of the model: it ran 2 times"):
        heard(network, ["activation@2"], inputs)


def test_every_pass_starts_afresh(network: Residual, inputs: Tensor) -> None:
    with LayerTaps(network, ["first"]) as taps:
        for factor in (1.0, 2.0, 3.0):
            network(inputs * factor)
            assert torch.equal(taps.take()["first"], network.first(inputs * factor))


def test_missing_names_fail_with_the_near_ones(network: Residual) -> None:
    with pytest.raises(
        BadInput, match=r"unknown layer of the student \(Residual\) 'first_layer'.*mean 'first'"
    ) as told:
        LayerTaps(network, ["first_layer"], who="the student")
    assert "second" in str(told.value)
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(40)))
    with pytest.raises(BadInput, match=r"these are the nearest of 40$") as told:
        LayerTaps(deep, ["layer3"])
    assert str(told.value).count(",") == 7
    for bad in ("first@", "first@last", "@0", ""):
        with pytest.raises(BadInput, match="unknown layer"):
            LayerTaps(network, [bad])


def test_a_layer_that_does_not_run_is_an_error(network: Residual, inputs: Tensor) -> None:
    with pytest.raises(BadInput, match=r"layer 'idle' of the model: it ran 0 times"):
        heard(network, ["idle"], inputs)


def test_hooks_are_gone_after_an_error(network: Residual) -> None:
    taps = LayerTaps(network, ["first"])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), taps:
        network(torch.zeros(4, 5))
    assert hooks(network) == 0
    with taps:
        assert hooks(network) == 2
        network(torch.zeros(1, 3))
    with pytest.raises(BadInput, match="ran 0 times"):
        taps.take()
    with taps, pytest.raises(RuntimeError, match="already open"):
        taps.__enter__()
    assert hooks(network) == 0


def test_hooks_of_others_stay(network: Residual, inputs: Tensor) -> None:
    calls = []
    network.first.register_forward_hook(lambda *_: calls.append(1))
    heard(network, ["first"], inputs)
    network(inputs)
    assert calls == [1, 1]


@pytest.mark.parametrize("name", ["first", "module.first", "_orig_mod.first", "module._orig_mod.first"])
@pytest.mark.parametrize("wrapping", ["plain", "parallel", "compiled", "both"])
def test_prefixes_of_wrappers_may_be_there_or_not(
    network: Residual, inputs: Tensor, name: str, wrapping: str
) -> None:
    model: nn.Module = network
    if wrapping in {"compiled", "both"}:
        model = torch.compile(model, backend="eager")
    if wrapping in {"parallel", "both"}:
        model = nn.DataParallel(model)
    assert torch.equal(heard(model, [name], inputs)[name], network.first(inputs))
    assert unwrap(model) is network


def test_a_layer_of_the_users_called_module_is_found() -> None:
    inner = nn.Linear(2, 2)
    model = nn.ModuleDict({"module": nn.ModuleDict({"first": inner})})
    with LayerTaps(model, ["module.first"]) as taps:
        inner(torch.ones(1, 2))
        assert torch.equal(taps.take()["module.first"], inner(torch.ones(1, 2)))


def test_of_a_tuple_the_first_is_taken_and_other_things_are_refused() -> None:
    recurrent = nn.Sequential(nn.GRU(2, 3, batch_first=True))
    assert heard(recurrent, ["0"], torch.zeros(4, 5, 2))["0"].shape == (4, 5, 3)

    class Named(nn.Module):
        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"hidden": inputs}

    with pytest.raises(BadInput, match=r"layer '0' of the model: it gives dict, expected a tensor"):
        heard(nn.Sequential(Named()), ["0"], torch.zeros(1, 2))
