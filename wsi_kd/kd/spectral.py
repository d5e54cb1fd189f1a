"""Layers that learn how many of their neurons they need: a gate on each, and L2 on gates and directions.

A layer of N1 inputs and N2 neurons is the lower left block of A = Phi diag(lambda_in, lambda_out) Phi^-1 with
Phi = [[1, 0], [phi, 1]], whose eigenvalues are the lambdas:

    w_ij = (lambda_in_j - lambda_out_i) phi_ij

Here lambda_in is 0 (or held at given values), so that neuron i is -lambda_out_i phi_i: a gate and a
direction. Only the L2 penalty makes neurons disappear. For a fixed product the least penalty is

    min over lambda phi = w of  mu_l lambda^2 + mu_p |phi|^2  =  2 sqrt(mu_l mu_p) |w|

a group lasso on each neuron's incoming weights; with mu_a a^2 on its outgoing ones besides, it is
3 (mu_l mu_p mu_a)^(1/3) (|w| |a|)^(2/3). Without the penalty all neurons stay. A teacher of h neurons is
found again exactly; a real one has no such number, and what is seen is a knee.

Source: Giambagli, Buffoni, Chicchi and Fanelli, "How a student becomes a teacher: learning and forgetting
through spectral methods", NeurIPS 2023. They train lambda_out and phi, both under L2, and rank neurons by
|lambda_out| |phi|; ranking by |lambda_out| alone is not invariant to lambda c, phi / c.
`spectral_pruning` cuts the neurons off.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name

ACTIVE: Final = 0.05
"""Neurons whose score is above this share of the largest one count as active."""
Plain = TypeVar("Plain", nn.Linear, nn.Conv2d)
IDENTITY: Final = -1.0
"""The eigenvalue at which a layer's weights are its directions."""


class SpectralLinear(nn.Module):
    """A linear layer of gated neurons; `weight` and `bias` are what it comes to.

    Args:
        inputs: width of what it is given.
        neurons: of the layer.
        bias: whether it has one; it is gated as the weights are.
        input_eigenvalues: (inputs,) lambda_in, held as they are; zeros if left out.

    It starts as torch's `nn.Linear` does, every gate open.
    """

    directions: nn.Parameter
    """(neurons, inputs): phi."""
    eigenvalues: nn.Parameter
    """(neurons,): lambda_out."""
    input_eigenvalues: Tensor
    bias_directions: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        neurons: int,
        *,
        bias: bool = True,
        input_eigenvalues: Float[Tensor, "inputs"] | None = None,
    ) -> None:
        super().__init__()
        plain = nn.Linear(inputs, neurons, bias=bias)
        _adopt(self, plain)
        if input_eigenvalues is not None and tuple(input_eigenvalues.shape) != (inputs,):
            raise BadInput(
                f"input_eigenvalues of shape {tuple(input_eigenvalues.shape)}; expected ({inputs},)"
            )
        given = torch.zeros(inputs) if input_eigenvalues is None else input_eigenvalues
        self.register_buffer("input_eigenvalues", given.clone())

    @classmethod
    def of(cls, layer: nn.Linear) -> "SpectralLinear":
        """Return a gated layer that gives what `layer` gives."""
        gated = cls(layer.in_features, layer.out_features, bias=layer.bias is not None)
        _adopt(gated, layer)
        return gated.to(layer.weight.device, layer.weight.dtype)

    @property
    def weight(self) -> Float[Tensor, "neurons inputs"]:
        """The weights, (lambda_in - lambda_out) phi."""
        return (self.input_eigenvalues[None, :] - self.eigenvalues[:, None]) * self.directions

    @property
    def bias(self) -> Float[Tensor, "neurons"] | None:
        """The bias, gated; None if there is none."""
        return None if self.bias_directions is None else -self.eigenvalues * self.bias_directions

    def forward(self, inputs: Float[Tensor, "*samples inputs"]) -> Float[Tensor, "*samples neurons"]:
        """Return what a linear layer of these weights gives."""
        return F.linear(inputs, self.weight, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """Return the same layer as torch's."""
        neurons, inputs = self.directions.shape
        layer = nn.Linear(
            inputs,
            neurons,
            bias=self.bias is not None,
            device=self.directions.device,
            dtype=self.directions.dtype,
        )
        return _fill(layer, self)


class SpectralConv2d(nn.Module):
    """A convolution of gated channels: as `SpectralLinear`, lambda_in 0.

    A batch normalization right after it makes the gates meaningless: it scales every channel anew.
    """

    directions: nn.Parameter
    """(channels, inputs, height, width)."""
    eigenvalues: nn.Parameter
    """(channels,)."""
    bias_directions: nn.Parameter | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        if layer.padding_mode != "zeros":
            raise BadInput(f"a convolution padded with '{layer.padding_mode}': expected zeros")
        _adopt(self, layer)
        self._shape = layer.stride, layer.padding, layer.dilation, layer.groups

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "SpectralConv2d":
        """Return a gated convolution that gives what `layer` gives."""
        return cls(layer)

    @property
    def groups(self) -> int:
        """As torch's."""
        return self._shape[3]

    @property
    def weight(self) -> Float[Tensor, "channels inputs height width"]:
        """The kernels, -lambda phi."""
        return -self.eigenvalues[:, None, None, None] * self.directions

    @property
    def bias(self) -> Float[Tensor, "channels"] | None:
        """The bias, gated; None if there is none."""
        return None if self.bias_directions is None else -self.eigenvalues * self.bias_directions

    def forward(self, images: Float[Tensor, "samples inputs h w"]) -> Float[Tensor, "samples channels h2 w2"]:
        """Return what a convolution with these kernels gives."""
        stride, padding, dilation, groups = self._shape
        return F.conv2d(images, self.weight, self.bias, stride, padding, dilation, groups)

    @torch.no_grad()
    def plain(self) -> nn.Conv2d:
        """Return the same convolution as torch's."""
        channels, inputs, height, width = self.directions.shape
        stride, padding, dilation, groups = self._shape
        layer = nn.Conv2d(
            inputs * groups,
            channels,
            (height, width),
            stride=stride,  # type: ignore[arg-type]  # as torch's own layer holds it
            padding=padding,  # type: ignore[arg-type]  # as above
            dilation=dilation,  # type: ignore[arg-type]  # as above
            groups=groups,
            bias=self.bias is not None,
            device=self.directions.device,
            dtype=self.directions.dtype,
        )
        return _fill(layer, self)


SpectralLayer: TypeAlias = SpectralLinear | SpectralConv2d


def spectralize(network: nn.Module, names: Iterable[str]) -> None:
    """Put gates on the named linear layers and convolutions, in place; the network gives what it gave.

    Make the optimizer afterwards: the layers have new parameters.

    Raises:
        BadInput: no such layer, or one of another kind.
    """
    for name in names:
        layer = layer_named(network, name)
        if isinstance(layer, nn.Linear):
            network.set_submodule(name, SpectralLinear.of(layer).train(layer.training))
        elif isinstance(layer, nn.Conv2d):
            network.set_submodule(name, SpectralConv2d.of(layer).train(layer.training))
        else:
            raise BadInput(
                f"layer '{name}' is {type(layer).__name__}; expected a Linear or a Conv2d without gates"
            )


def layer_named(network: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name in `named_modules()`.

    Raises:
        BadInput: there is none, with the nearest name.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name not in modules:
        raise unknown_name("layer", name, [known for known in modules if known])
    return modules[name]


def spectral_layers(network: nn.Module) -> Iterator[tuple[str, SpectralLayer]]:
    """Yield the gated layers of a network with their names."""
    for name, module in network.named_modules():
        if isinstance(module, SpectralLinear | SpectralConv2d):
            yield name, module


def spectral_penalty(
    network: nn.Module, *, eigenvalue_weight: float = 1.0, direction_weight: float = 1.0
) -> Float[Tensor, ""]:
    """Return eigenvalue_weight sum lambda^2 + direction_weight sum phi^2 over all gated layers.

    Add it to the loss times 1e-4 to 1e-2, and take these parameters out of the optimizer's own weight decay.
    Biases bear no penalty.

    Raises:
        BadInput: no gated layer, or a weight of 0: without one of the two no neuron disappears.
    """
    if min(eigenvalue_weight, direction_weight) <= 0.0:
        raise BadInput(
            f"penalty weights {eigenvalue_weight:g} (eigenvalues) and {direction_weight:g} (directions): "
            "expected both above 0, as a penalty on one alone only moves scale to the other"
        )
    terms = [
        eigenvalue_weight * layer.eigenvalues.square().sum()
        + direction_weight * layer.directions.square().sum()
        for _, layer in spectral_layers(network)
    ]
    if not terms:
        raise BadInput("the network has no gated layer; call spectralize(network, names) first")
    return torch.stack(terms).sum()


@torch.no_grad()
def neuron_scores(layer: nn.Module) -> Float[Tensor, "neurons"]:
    """Return the norm of each neuron's (channel's) incoming weights, |lambda| |phi| of a gated layer.

    Raises:
        BadInput: a layer without weights.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:  # noqa: PLR2004  # neurons, inputs
        raise BadInput(
            f"{type(layer).__name__} has no weights of neurons; pass a linear layer or a convolution"
        )
    scores: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return scores


def active_neurons(layer: nn.Module, *, threshold: float = ACTIVE) -> Bool[Tensor, "neurons"]:
    """Return which neurons score above a share of the layer's largest score; `.sum()` counts them.

    Raises:
        BadInput: a threshold outside of [0, 1).
    """
    if not 0.0 <= threshold < 1.0:
        raise BadInput(f"threshold {threshold:g}: expected a share from 0 up to, not including, 1")
    scores = neuron_scores(layer)
    return scores > threshold * scores.max()


def _adopt(gated: nn.Module, layer: nn.Linear | nn.Conv2d) -> None:
    """Take over the weights of a layer, every gate open."""
    weight = layer.weight.detach()
    gated.directions = nn.Parameter(weight.clone())
    gated.eigenvalues = nn.Parameter(weight.new_full((len(weight),), IDENTITY))
    gated.register_parameter(
        "bias_directions", None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
    )


def _fill(layer: Plain, gated: "SpectralLinear | SpectralConv2d") -> Plain:
    layer.weight.copy_(gated.weight)
    if layer.bias is not None and gated.bias is not None:
        layer.bias.copy_(gated.bias)
    layer.train(gated.training)
    return layer
