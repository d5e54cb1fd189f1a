"""Neural tangent kernels: of infinitely wide two-layer networks in closed form, of any network by autograd.

Of f(x) = a.sigma(W x) / sqrt(m) with a, W ~ N(0, 1) and m to infinity

    K(x, x') = E[sigma(w.x) sigma(w.x')] + x.x' E[sigma'(w.x) sigma'(w.x')]

Source: Jacot, Gabriel and Hongler, NeurIPS 2018 (arXiv 1806.07572); the expectations are Cho and Saul's
(ReLU) and Williams' (erf).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput


def relu_kernel(
    left: Float[Tensor, "lefts width"], right: Float[Tensor, "rights same_width"] | None = None
) -> Float[Tensor, "lefts rights"]:
    """Return the kernel of sigma(t) = sqrt(2) max(t, 0): |x||x'| (k1(u) + u k0(u)), u the cosine; float64.

    >>> round(relu_kernel(torch.ones(1, 2)).item(), 6)  # K(x, x) = 2 |x|^2
    4.0
    """
    left, right = _both(left, right)
    norms = _norms(left)[:, None] * _norms(right)[None, :]
    cosine = (left @ right.T / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    flat = (math.pi - angle) / math.pi
    bent = (cosine * (math.pi - angle) + (1.0 - cosine.square()).sqrt()) / math.pi
    return norms * (bent + cosine * flat)


def erf_tangent_kernel(
    left: Float[Tensor, "lefts width"], right: Float[Tensor, "rights same_width"] | None = None
) -> Float[Tensor, "lefts rights"]:
    """Return the kernel of sigma(t) = erf(t / sqrt 2); float64."""
    left, right = _both(left, right)
    product = left @ right.T
    scale = (1.0 + _norms(left).square())[:, None] * (1.0 + _norms(right).square())[None, :]
    values = (2.0 / math.pi) * torch.arcsin(product / scale.sqrt())
    slopes = (2.0 / math.pi) / (scale - product.square()).sqrt()
    return values + product * slopes


def empirical_kernel(
    network: nn.Module,
    left: Float[Tensor, "lefts ..."],
    right: Float[Tensor, "rights ..."] | None = None,
    *,
    output: int | None = None,
    chunk: int = 64,
) -> Float[Tensor, "lefts rights"]:
    """Return the kernel of a finite network at its weights: products of the outputs' gradients.

    Args:
        network: any module of one input; it is asked in the mode it is in, one sample at a time, so put it
            into eval mode. Its output is (samples,) or (samples, outputs).
        left: inputs.
        right: other inputs; the same if left out.
        output: which of several outputs; not needed for one.
        chunk: samples whose gradients are held at once, each as large as the network.

    Raises:
        BadInput: several outputs and none named, or nothing to train.
    """
    parameters = {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}
    if not parameters:
        raise BadInput("the network has no parameter to train, so its tangent kernel is 0")
    held = {name: value.detach() for name, value in network.named_parameters() if not value.requires_grad}
    held |= dict(network.named_buffers())

    def value(trained: dict[str, Tensor], sample: Tensor) -> Tensor:
        given = torch.func.functional_call(network, {**held, **trained}, (sample[None],))
        return _one_output(given, output)

    gradient = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0))
    rows = []
    for part in torch.split(left, chunk):
        ours = _flatten(gradient(parameters, part))
        others = left if right is None else right
        rows.append(
            torch.cat([ours @ _flatten(gradient(parameters, p)).T for p in torch.split(others, chunk)], dim=1)
        )
    return torch.cat(rows)


def _one_output(given: Any, output: int | None) -> Tensor:
    if not isinstance(given, Tensor):
        raise BadInput(f"the network gave {type(given).__name__}; expected a tensor of outputs")
    flat = given.reshape(-1)
    if output is None and len(flat) != 1:
        raise BadInput(f"the network has {len(flat)} outputs; say which with output=")
    if output is not None and not 0 <= output < len(flat):
        raise BadInput(f"output {output}: expected 0 to {len(flat) - 1}")
    return flat[output or 0]


def _flatten(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten(1) for value in gradients.values()], dim=1)


def _both(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor]:
    other = left if right is None else right
    if left.shape[1] != other.shape[1]:
        raise BadInput(f"inputs of width {left.shape[1]} and {other.shape[1]}: expected the same")
    return left.double(), other.double()


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms
