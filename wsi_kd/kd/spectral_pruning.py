"""Cut a network down to the neurons that its gates left: the knee, and the smaller network itself.

Source: the pruning curve of Giambagli et al., NeurIPS 2023; see `spectral`.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral import (
    ACTIVE,
    SpectralConv2d,
    SpectralLinear,
    active_neurons,
    layer_named,
    neuron_scores,
)

Layer = nn.Linear | nn.Conv2d


class Cut(NamedTuple):
    """A network with some of a layer's neurons left."""

    kept: int
    """Neurons of the layer."""
    error: float
    """What the caller's measure says of it."""


@torch.no_grad()
def pruning_curve(
    network: nn.Module,
    name: str,
    measure: Callable[[nn.Module], float],
    *,
    counts: Iterable[int] | None = None,
) -> list[Cut]:
    """Measure a network with only the best neurons of a layer left, the others set to 0; it stays as it is.

    Args:
        network: any network with that layer.
        name: of a gated layer, or of a linear layer or convolution.
        measure: an error, lower is better, of a network in eval mode; use validation data.
        counts: how many neurons to leave each time; 1 to all if left out.

    Raises:
        BadInput: no such layer, or a count that is not 1 to all.
    """
    masked = copy.deepcopy(network).eval()
    layer = _named(masked, name)
    order = neuron_scores(layer).argsort(descending=True, stable=True)
    asked = range(1, len(order) + 1) if counts is None else sorted(counts)
    curve = []
    for kept in reversed(asked):
        if not 1 <= kept <= len(order):
            raise BadInput(f"{kept} neurons of '{name}'; expected 1 to {len(order)}")
        _close(layer, order[kept:])
        curve.append(Cut(kept, float(measure(masked))))
    return curve[::-1]


def find_knee(curve: Sequence[Cut], *, tolerance: float) -> int:
    """Return the fewest neurons from which on the error stays within `tolerance` of the widest network's.

    Raises:
        BadInput: an empty curve.
    """
    if not curve:
        raise BadInput("the pruning curve is empty; measure it at some counts of neurons")
    ordered = sorted(curve, key=lambda cut: cut.kept, reverse=True)
    knee = ordered[0].kept
    for cut in ordered:
        if not cut.error <= ordered[0].error + tolerance:
            break
        knee = cut.kept
    return knee


@torch.no_grad()
def prune_spectral(
    network: nn.Module,
    name: str,
    *,
    consumers: Sequence[str],
    keep: int | None = None,
    threshold: float = ACTIVE,
    between: nn.Module | None = None,
) -> nn.Module:
    """Return a copy of the network without the weak neurons of a layer, and without gates on it.

    Its outputs are those of the network with these neurons' gates at 0.

    Args:
        network: left as it is.
        name: the gated layer to make narrow; a plain linear layer or convolution works too.
        consumers: all layers that are given its neurons; only elementwise functions and pooling may stand
            between, no normalization.
        keep: how many neurons to keep, the best first; if left out those above `threshold`.
        threshold: share of the largest score; see `active_neurons`.
        between: the activation between, needed where it is not 0 at 0 (a sigmoid): the constant that a closed
            neuron still gives is then added to the consumers' biases.

    Raises:
        BadInput: no such layers, consumers that do not take the layer's neurons, nothing left, grouped
            convolutions, a constant without a bias to add it to.
    """
    narrow = copy.deepcopy(network)
    layer = _named(narrow, name)
    kept = _kept(layer, name, keep=keep, threshold=threshold)
    plain = layer.plain() if isinstance(layer, SpectralLinear | SpectralConv2d) else layer
    narrow.set_submodule(name, _with_rows(plain, kept))
    if not consumers:
        raise BadInput(f"consumers of '{name}': none named; name every layer that takes its neurons")
    rest = _resting_value(between)
    for consumer in consumers:
        taker = _named(narrow, consumer)
        taker = taker.plain() if isinstance(taker, SpectralLinear | SpectralConv2d) else taker
        narrow.set_submodule(consumer, _with_columns(taker, kept, rest=rest, name=consumer))
    return narrow


def _kept(layer: nn.Module, name: str, *, keep: int | None, threshold: float) -> Bool[Tensor, "neurons"]:
    scores = neuron_scores(layer)
    if keep is None:
        kept = active_neurons(layer, threshold=threshold)
        if not bool(kept.any()):
            raise BadInput(f"layer '{name}' has no active neuron: all weights are 0; lower the penalty")
        return kept
    if not 1 <= keep <= len(scores):
        raise BadInput(f"keep {keep} neurons of '{name}'; expected 1 to {len(scores)}")
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[:keep]] = True
    return kept


def _named(network: nn.Module, name: str) -> SpectralLinear | SpectralConv2d | Layer:
    layer = layer_named(network, name)
    if not isinstance(layer, SpectralLinear | SpectralConv2d | nn.Linear | nn.Conv2d):
        raise BadInput(f"layer '{name}' is {type(layer).__name__}; expected a linear layer or a convolution")
    if isinstance(layer, nn.Conv2d | SpectralConv2d) and layer.groups != 1:
        raise BadInput(f"layer '{name}' is a grouped convolution; its channels cannot be cut one by one")
    return layer


def _close(layer: nn.Module, neurons: Tensor) -> None:
    if isinstance(layer, SpectralLinear | SpectralConv2d):
        layer.eigenvalues[neurons] = 0.0
        return
    for values in (layer.weight, layer.bias):
        if isinstance(values, Tensor):
            values[neurons] = 0.0


def _with_rows(layer: Layer, kept: Bool[Tensor, "neurons"]) -> Layer:
    """Return the layer with fewer neurons."""
    narrow = copy.deepcopy(layer)
    narrow.weight = nn.Parameter(layer.weight[kept].clone())
    if layer.bias is not None:
        narrow.bias = nn.Parameter(layer.bias[kept].clone())
    if isinstance(narrow, nn.Linear):
        narrow.out_features = int(kept.sum())
    else:
        narrow.out_channels = int(kept.sum())
    return narrow


def _with_columns(layer: Layer, kept: Bool[Tensor, "neurons"], *, rest: float, name: str) -> Layer:
    """Return the layer for fewer inputs; what closed neurons would still have given goes into its bias."""
    columns = layer.weight.shape[1]
    if columns % len(kept) or (isinstance(layer, nn.Conv2d) and columns != len(kept)):
        raise BadInput(
            f"consumer '{name}' takes {columns} inputs and the layer gives {len(kept)}; "
            "name the layers that take its neurons"
        )
    stays = kept.repeat_interleave(columns // len(kept))  # channels of a flattened map stand together
    narrow = copy.deepcopy(layer)
    narrow.weight = nn.Parameter(layer.weight[:, stays].clone())
    if isinstance(narrow, nn.Linear):
        narrow.in_features = int(stays.sum())
    else:
        narrow.in_channels = int(stays.sum())
    if rest != 0.0:
        _add_constant(narrow, layer.weight[:, ~stays], rest=rest, name=name)
    return narrow


def _add_constant(narrow: Layer, lost: Tensor, *, rest: float, name: str) -> None:
    if narrow.bias is None or isinstance(narrow, nn.Conv2d):
        kind = (
            "is a convolution, at whose border the constant is another"
            if narrow.bias is not None
            else "has no bias"
        )
        raise BadInput(
            f"closed neurons still give {rest:g} to '{name}', which {kind}; use an activation that is 0 at 0"
        )
    narrow.bias.add_(rest * lost.sum(dim=1))


def _resting_value(between: nn.Module | None) -> float:
    return 0.0 if between is None else float(copy.deepcopy(between).eval()(torch.zeros(1, 1))[0, 0])
