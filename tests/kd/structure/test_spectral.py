"""Gated layers, their penalty, and the network that is left."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral import (
    SpectralConv2d,
    SpectralLinear,
    active_neurons,
    neuron_scores,
    spectral_layers,
    spectral_penalty,
    spectralize,
)
from wsi_kd.kd.spectral_pruning import Cut, find_knee, prune_spectral, pruning_curve


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def perceptron(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 8), activation(), nn.Linear(8, 3))


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 5),
    )


def shuffle_gates(network: nn.Module) -> None:
    """Give every gate another value, some small ones among them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, layer in spectral_layers(network):
            layer.eigenvalues.copy_(torch.randn(len(layer.eigenvalues), generator=generator))
            layer.eigenvalues[::3] *= 1e-3


@pytest.mark.shared_data
def test_forward_and_gradients_are_those_of_the_authors_layer(shared_data: Path):
    known = {
        name: torch.from_numpy(values)
        for name, values in np.load(shared_data.parent / "reference" / "spectral_layer.npz").items()
    }
    layer = SpectralLinear(7, 4, bias=False, input_eigenvalues=known["diag_start"][:, 0]).double()
    with torch.no_grad():
        layer.directions.copy_(known["base"].T)
        layer.eigenvalues.copy_(known["diag_end"][0])
    torch.testing.assert_close(layer.weight, known["direct_space"], rtol=1e-10, atol=1e-12)
    found = layer(known["x"])
    torch.testing.assert_close(found, known["out"], rtol=1e-10, atol=1e-12)
    (found * known["cotangent"]).sum().backward()
    torch.testing.assert_close(layer.directions.grad, known["grad.base"].T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.eigenvalues.grad, known["grad.diag_end"][0], rtol=1e-10, atol=1e-12)
    frozen = SpectralLinear(7, 4, bias=False).double()
    with torch.no_grad():
        frozen.directions.copy_(known["base"].T)
        frozen.eigenvalues.copy_(known["diag_end"][0])
    torch.testing.assert_close(frozen(known["x"]), known["out_diag_start_zero"], rtol=1e-10, atol=1e-12)


@pytest.mark.shared_data
def test_gated_bias_is_that_of_the_torch_variant(shared_data: Path):
    known = {
        name: torch.from_numpy(values)
        for name, values in np.load(shared_data.parent / "reference" / "spectral_layer.npz").items()
    }
    layer = SpectralLinear(7, 4).double()
    with torch.no_grad():
        layer.directions.copy_(known["torch.0.weight"])
        layer.bias_directions.copy_(known["torch.0.bias"])
        layer.eigenvalues.copy_(-known["torch.1.eigvals"])
    torch.testing.assert_close(layer(known["x"]), known["torch.out"], rtol=1e-10, atol=1e-12)


def test_weights_are_the_lower_left_block_of_an_operator_with_the_eigenvalues():
    ins, outs = 5, 3
    layer = SpectralLinear(ins, outs, bias=False, input_eigenvalues=inputs(ins)).double()
    with torch.no_grad():
        layer.eigenvalues.copy_(inputs(outs).double())
    phi = torch.eye(ins + outs, dtype=torch.float64)
    phi[ins:, :ins] = layer.directions.detach()
    spectrum = torch.cat([layer.input_eigenvalues, layer.eigenvalues.detach()])
    operator = phi @ torch.diag(spectrum) @ (2 * torch.eye(ins + outs, dtype=torch.float64) - phi)
    torch.testing.assert_close(operator[ins:, :ins], layer.weight, rtol=1e-12, atol=1e-12)
    values = torch.linalg.eigvals(operator).real.sort().values
    torch.testing.assert_close(values, spectrum.sort().values, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("build", "names", "shape"), [(perceptron, ["0", "2"], (20, 6)), (cnn, ["0", "2"], (4, 3, 8, 8))]
)
def test_gating_a_network_changes_nothing(build, names, shape):
    plain, gated = build(), build()
    spectralize(gated, names)
    assert [name for name, _ in spectral_layers(gated)] == names
    torch.testing.assert_close(gated(inputs(*shape)), plain(inputs(*shape)))
    for name, layer in spectral_layers(gated):
        torch.testing.assert_close(layer.plain().weight, plain.get_submodule(name).weight)


def test_scale_between_gate_and_direction_changes_neither_outputs_nor_scores():
    layer = SpectralLinear(6, 4)
    before, scores = layer(inputs(9, 6)), neuron_scores(layer)
    with torch.no_grad():
        layer.eigenvalues *= 7.0
        layer.directions /= 7.0
        layer.bias_directions /= 7.0
    torch.testing.assert_close(layer(inputs(9, 6)), before)
    torch.testing.assert_close(neuron_scores(layer), scores)


@pytest.mark.parametrize(("eigenvalue_weight", "direction_weight"), [(1.0, 1.0), (4.0, 1.0), (0.3, 2.0)])
def test_least_penalty_of_a_product_is_a_group_lasso(eigenvalue_weight, direction_weight):
    """For fixed weights the penalty is least, 2 sqrt(mu_l mu_p) |w|, where mu_l lambda^2 = mu_p |phi|^2."""
    weights = torch.tensor([[3.0, 4.0]], dtype=torch.float64)  # of norm 5

    def penalty(gate: float) -> float:
        layer = SpectralLinear(2, 1, bias=False).double()
        with torch.no_grad():
            layer.eigenvalues.fill_(-gate)
            layer.directions.copy_(weights / gate)
        found = spectral_penalty(
            layer, eigenvalue_weight=eigenvalue_weight, direction_weight=direction_weight
        )
        return found.item()

    balanced = math.sqrt(math.sqrt(direction_weight / eigenvalue_weight) * 5.0)
    least = 2 * math.sqrt(eigenvalue_weight * direction_weight) * 5.0
    assert penalty(balanced) == pytest.approx(least, rel=1e-12)
    assert all(penalty(balanced * factor) > least for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("between", [nn.ReLU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("keep", [None, 1, 5, 16])
def test_pruned_perceptron_gives_what_the_masked_one_gives(between, keep):
    network = perceptron(between)
    spectralize(network, ["0"])
    shuffle_gates(network)
    kept = int(active_neurons(network.get_submodule("0")).sum()) if keep is None else keep
    narrow = prune_spectral(network, "0", consumers=["2"], keep=keep, between=between())
    assert isinstance(narrow.get_submodule("0"), nn.Linear)
    assert narrow.get_submodule("0").out_features == narrow.get_submodule("2").in_features == kept
    order = neuron_scores(network.get_submodule("0")).argsort(descending=True)
    with torch.no_grad():
        network.get_submodule("0").eigenvalues[order[kept:]] = 0.0
    torch.testing.assert_close(narrow(inputs(20, 6)), network(inputs(20, 6)))


def test_pruned_convolutions_give_what_the_masked_ones_give():
    network = cnn()
    spectralize(network, ["0", "2"])
    shuffle_gates(network)
    narrow = prune_spectral(network, "0", consumers=["2"], keep=3)
    narrow = prune_spectral(narrow, "2", consumers=["5"], keep=4)
    with torch.no_grad():
        for name, kept in (("0", 3), ("2", 4)):
            layer = network.get_submodule(name)
            if name == "2":  # its scores are those of what is left of its inputs
                stays = neuron_scores(
                    prune_spectral(network, "0", consumers=["2"], keep=3).get_submodule("2")
                )
            else:
                stays = neuron_scores(layer)
            layer.eigenvalues[stays.argsort(descending=True)[kept:]] = 0.0
    torch.testing.assert_close(narrow(inputs(4, 3, 8, 8)), network(inputs(4, 3, 8, 8)))


def test_neuron_of_a_closed_gate_is_cut_off_exactly():
    network = perceptron()
    spectralize(network, ["0"])
    with torch.no_grad():
        network.get_submodule("0").eigenvalues[[1, 4]] = 0.0
    narrow = prune_spectral(network, "0", consumers=["2"], threshold=0.0)
    assert narrow.get_submodule("0").out_features == 14
    torch.testing.assert_close(narrow(inputs(20, 6)), network(inputs(20, 6)))


def test_curve_falls_off_a_network_that_does_not_need_all():
    network = perceptron()
    spectralize(network, ["0"])
    with torch.no_grad():
        network.get_submodule("0").eigenvalues[5:] = 0.0
    seen = inputs(50, 6)
    target = network(seen).detach()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    curve = pruning_curve(network, "0", lambda cut: (cut(seen) - target).square().mean().item())
    assert [cut.kept for cut in curve] == list(range(1, 17))
    assert all(cut.error == 0.0 for cut in curve[4:])
    assert all(cut.error > 0.0 for cut in curve[:4])
    assert find_knee(curve, tolerance=1e-9) == 5
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_knee_is_the_fewest_from_which_on_all_are_good():
    curve = [Cut(1, 0.1), Cut(2, 0.9), Cut(4, 0.15), Cut(8, 0.1)]
    assert find_knee(curve, tolerance=0.06) == 4
    assert find_knee(curve, tolerance=0.01) == 8


def test_penalty_makes_a_wide_student_as_wide_as_its_teacher():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.nn.functional.normalize(torch.randn(3, 6, generator=generator), dim=1)
    seen = torch.randn(1000, 6, generator=generator)
    target = torch.relu(seen @ teacher.T).sum(dim=1, keepdim=True)
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 24, bias=False), nn.ReLU(), nn.Linear(24, 1, bias=False))
    spectralize(student, ["0"])
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(1500):
        loss = (student(seen) - target).square().mean() + 3e-3 * (
            spectral_penalty(student) + student[2].weight.square().sum()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert int(active_neurons(student[0]).sum()) == 3
    gate, directions = student[0].eigenvalues, student[0].directions
    strong = active_neurons(student[0])
    torch.testing.assert_close(
        gate[strong] ** 2, directions[strong].square().sum(dim=1), rtol=0.05, atol=1e-3
    )


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda net: spectralize(net, ["9"]), "unknown layer '9'"),
        (lambda net: spectralize(net, ["1"]), "layer '1' is ReLU"),
        (spectral_penalty, "no gated layer"),
        (lambda net: spectral_penalty(net, direction_weight=0.0), "both above 0"),
        (lambda net: active_neurons(net[0], threshold=1.0), "threshold 1"),
        (lambda net: neuron_scores(net[1]), "no weights of neurons"),
        (lambda net: prune_spectral(net, "0", consumers=["4"]), "takes 8 inputs and the layer gives 16"),
        (lambda net: prune_spectral(net, "0", consumers=[]), "none named"),
        (lambda net: prune_spectral(net, "0", consumers=["2"], keep=17), "expected 1 to 16"),
        (lambda net: pruning_curve(net, "0", lambda _: 0.0, counts=[0]), "expected 1 to 16"),
        (lambda _: find_knee([], tolerance=0.1), "empty"),
        (lambda _: SpectralLinear(3, 2, input_eigenvalues=torch.ones(2)), r"expected \(3,\)"),
        (lambda _: SpectralConv2d(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), "expected zeros"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask(perceptron())


def test_constant_of_a_closed_neuron_needs_a_bias_to_go_to():
    network = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 2, bias=False))
    with pytest.raises(BadInput, match=r"still give 0\.5 to '2', which has no bias"):
        prune_spectral(network, "0", consumers=["2"], keep=3, between=nn.Sigmoid())


def test_grouped_convolutions_are_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(BadInput, match="grouped"):
        prune_spectral(network, "0", consumers=["2"], keep=2)
