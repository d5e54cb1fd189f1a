"""Start a narrow network from a trained wide one: copy the neurons that matter, average the rest.

Of a hidden layer h = activation(W x + b) and what follows it, A h + c, a layer of n neurons keeps

- the n - 1 neurons of largest importance, std(h_j) |A_:j| over calibration inputs (|w_j| |A_:j| without), as
  they are;
- one average of the rest R: u is the first left singular vector of A_:R, s_j = u.A_:j, and
  w = sum_j s_j w_j / sum_j |s_j|, its bias likewise, its outgoing weights u sum_j |s_j|. A neuron that pulls
  the other way is turned around where the activation is odd, else left out of the average.

With calibration inputs the outgoing weights are then fitted anew (ridge regression of the wide network's
outputs on the narrow layer), and a deeper network is narrowed layer by layer, each fitted to what the wide
one gives there.

It saves steps, and little more: after training long enough other starts come to about the same place. The
optimality behind it (`wsi_kd.kd.copy_average`) is that of one hidden layer of erf neurons, orthonormal
weights and Gaussian inputs; elsewhere it is a rule of thumb.

Source: the copy-average points of Simsek et al., NeurIPS 2023 (arXiv 2311.01644), carried over to trained
networks; importance, singular vector and fit are this project's.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput

Activation: TypeAlias = Callable[[Tensor], Tensor]
RIDGE: Final = 1e-3
"""Of the outgoing weights' fit, relative to the mean square of a neuron's output."""
NO_RIDGE: Final = 1e-12
"""Its least value, for neurons that never fire."""
SAMPLE_WISE: Final = (nn.Dropout, nn.AlphaDropout, nn.Identity)
"""What may stand between two linear layers beside activations."""


class Calibration(NamedTuple):
    """What a pair of layers is fitted on."""

    inputs: Float[Tensor, "samples inputs"]
    """What the first layer is given."""
    targets: Float[Tensor, "samples outputs"]
    """What the second one should give."""


def copy_average_init(
    first: nn.Linear,
    second: nn.Linear,
    width: int,
    *,
    activation: Activation,
    calibration: Float[Tensor, "samples inputs"] | None = None,
) -> tuple[nn.Linear, nn.Linear]:
    """Return narrower copies of two linear layers with `width` neurons between them.

    Args:
        first: (hidden, inputs) weights.
        second: (outputs, hidden) weights.
        width: neurons of the narrow hidden layer, from 1 to those of the wide one.
        activation: elementwise, what stands between the layers.
        calibration: inputs as `first` sees them, some hundred of them, unlabeled; without them nothing is
            fitted.

    Raises:
        BadInput: layers that do not follow each other, a width that is not below the wide one's, calibration
            inputs that do not fit or are not finite.
    """
    fit = None
    if calibration is not None:
        _check_calibration(calibration, first)
        with torch.no_grad():
            fit = Calibration(calibration, second(activation(first(calibration))))
    return narrow_pair(first, second, width, activation=activation, fit=fit)


@torch.no_grad()
def narrow_pair(
    first: nn.Linear, second: nn.Linear, width: int, *, activation: Activation, fit: Calibration | None
) -> tuple[nn.Linear, nn.Linear]:
    """Do as `copy_average_init`, the second layer fitted to any targets.

    Raises:
        BadInput: as there.
    """
    if second.in_features != first.out_features:
        raise BadInput(
            f"the first layer has {first.out_features} neurons and the second takes {second.in_features}; "
            "pass layers that follow each other"
        )
    if not 1 <= width <= first.out_features:
        raise BadInput(f"width {width}: expected 1 to {first.out_features}, the wide layer's neurons")
    order = importance(first, second, activation=activation, inputs=fit and fit.inputs).argsort(
        descending=True, stable=True
    )
    copied, rest = order[: width - 1], order[width - 1 :]
    incoming = _rows(first)
    merged, outgoing = _average(incoming[rest], second.weight[:, rest], odd=is_odd(activation))
    narrow_first = _linear(torch.cat([incoming[copied], merged[None]]), bias=first.bias is not None)
    columns = torch.cat([second.weight[:, copied], outgoing[:, None]], dim=1)
    narrow_second = _linear(
        columns if second.bias is None else torch.cat([columns, second.bias[:, None]], dim=1),
        bias=second.bias is not None,
    )
    if fit is not None and width < first.out_features:  # at full width nothing is lost
        refit(narrow_second, activation(narrow_first(fit.inputs)), fit.targets)
    return narrow_first, narrow_second


@torch.no_grad()
def importance(
    first: nn.Linear, second: nn.Linear, *, activation: Activation, inputs: Tensor | None
) -> Float[Tensor, "neurons"]:
    """Return how much each hidden neuron moves the outputs: its spread times its outgoing weights' norm.

    Without inputs the norm of its incoming weights stands for the spread.
    """
    outgoing: Tensor = torch.linalg.vector_norm(second.weight, dim=0)
    spread: Tensor = (
        torch.linalg.vector_norm(first.weight, dim=1)
        if inputs is None
        else activation(first(inputs)).std(dim=0, correction=0)
    )
    return spread * outgoing


@torch.no_grad()
def refit(
    second: nn.Linear, hidden: Float[Tensor, "samples neurons"], targets: Float[Tensor, "samples outputs"]
) -> None:
    """Set a layer to the ridge regression of the targets on what it is given; biases bear no penalty."""
    left, right = hidden.double(), targets.double()
    bias = second.bias is not None
    means = (left.mean(dim=0), right.mean(dim=0)) if bias else (left.new_zeros(()), right.new_zeros(()))
    left, right = left - means[0], right - means[1]
    gram = left.T @ left / len(left)
    ridge = (RIDGE * gram.diagonal().mean()).clamp(min=NO_RIDGE)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram + ridge * eye, left.T @ right / len(left)).T
    second.weight.copy_(weight)
    if bias:
        second.bias.copy_(means[1] - weight @ means[0])


def narrow_network(
    network: nn.Sequential, widths: int | Sequence[int], *, calibration: Float[Tensor, "samples inputs"]
) -> nn.Sequential:
    """Return a narrower copy of a multilayer perceptron: linear layers, activations and dropout in a row.

    Args:
        network: as said; it is left as it is.
        widths: neurons of each hidden layer, or one number for all.
        calibration: (samples, inputs) unlabeled inputs of the network.

    Raises:
        BadInput: another kind of network, another number of widths, and as `copy_average_init`.
    """
    layers = _linear_layers(network)
    hidden = len(layers) - 1
    asked = [widths] * hidden if isinstance(widths, int) else list(widths)
    if len(asked) != hidden:
        raise BadInput(f"{len(asked)} widths for a network of {hidden} hidden layers; give one for each")
    places = list(layers)
    _check_calibration(calibration, layers[places[0]])
    wide, narrow = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    for (start, end), width in zip(pairwise(places), asked, strict=True):
        with torch.no_grad():
            fit = Calibration(narrow[:start](calibration), wide[: end + 1](calibration))
        layers[start], layers[end] = narrow_pair(
            layers[start], layers[end], width, activation=wide[start + 1 : end], fit=fit
        )
        narrow[start], narrow[end] = layers[start], layers[end]
    return narrow.train(network.training)


@torch.no_grad()
def is_odd(activation: Activation) -> bool:
    """Say whether activation(-x) = -activation(x), tried from -4 to 4."""
    grid = torch.linspace(0.0, 4.0, 33)
    return torch.allclose(activation(-grid), -activation(grid), atol=1e-6)


def _average(incoming: Tensor, outgoing: Tensor, *, odd: bool) -> tuple[Tensor, Tensor]:
    """Return the average's incoming row and outgoing column."""
    direction = torch.linalg.svd(outgoing, full_matrices=False).U[:, 0]
    shares = direction @ outgoing
    if shares.sum() < 0:
        direction, shares = -direction, -shares
    if not odd:
        shares = shares.clamp(min=0.0)
    total = shares.abs().sum()
    if total == 0:
        return incoming.mean(dim=0), torch.zeros_like(direction)  # nothing follows these neurons
    return (shares @ incoming) / total, direction * total


def _rows(layer: nn.Linear) -> Tensor:
    """Return the weights of a layer, its bias as a last column where it has one."""
    return layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], dim=1)


def _linear(rows: Tensor, *, bias: bool) -> nn.Linear:
    inputs = rows.shape[1] - int(bias)
    layer = nn.Linear(inputs, len(rows), bias=bias, device=rows.device, dtype=rows.dtype)
    layer.weight.copy_(rows[:, :inputs])
    if bias:
        layer.bias.copy_(rows[:, inputs])
    return layer


def _linear_layers(network: nn.Sequential) -> dict[int, nn.Linear]:
    """Return the linear layers by their place."""
    modules = list(network)
    layers = {place: module for place, module in enumerate(modules) if isinstance(module, nn.Linear)}
    if len(layers) < 2:  # noqa: PLR2004  # a hidden layer lies between two
        raise BadInput("the network has no hidden layer; expected two linear layers at least, in a row")
    for place in range(min(layers), max(layers)):
        module = modules[place]
        if place not in layers and not (_is_activation(module) or isinstance(module, SAMPLE_WISE)):
            raise BadInput(
                f"layer {place} of the network is {type(module).__name__}; expected linear layers with "
                "activations and dropout between them: pass that part of it, or pairs to copy_average_init"
            )
    return layers


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == nn.ReLU.__module__ and not list(module.parameters())


def _check_calibration(calibration: Tensor, first: nn.Linear) -> None:
    wanted = first.in_features
    if calibration.ndim != 2 or calibration.shape[1] != wanted or not len(calibration):  # noqa: PLR2004  # samples, inputs
        raise BadInput(f"calibration inputs are {tuple(calibration.shape)}; expected (samples, {wanted})")
    if not bool(calibration.isfinite().all()):
        raise BadInput("calibration inputs are not finite; leave out what is infinite or not a number")
