"""Layers that losses learn: they carry one network's features to the size of another's.

They are drawn on the CPU from torch's global generator, so that a seed gives the same on every device, and
moved to the features: in float64 where those are, in float32 for all others.
"""

from typing import TypedDict, TypeVar

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import title
from wsi_kd.kd.outputs import DistillationLoss

Module = TypeVar("Module", bound=nn.Module)


class Placement(TypedDict):
    """Where parameters go: `layer.to(**placement)`."""

    device: torch.device
    dtype: torch.dtype


def placed_like(features: Tensor) -> Placement:
    """Return device and type of parameters that meet these features."""
    precise = features.dtype == torch.float64
    return Placement(device=features.device, dtype=torch.float64 if precise else torch.float32)


def require_built(loss: DistillationLoss, module: Module | None) -> Module:
    """Return what `prepare` built.

    Raises:
        BadInput: it was not called.
    """
    if module is None:
        raise BadInput(
            f"{title(loss)}: it learns layers that are not built; call prepare with one batch first"
        )
    return module


def project(loss: DistillationLoss, layers: nn.Module | None, features: Tensor) -> Tensor:
    """Apply what `prepare` built.

    Raises:
        BadInput: `prepare` was not called, or saw another number of channels.
    """
    built = require_built(loss, layers)
    expected = next(_width(layer) for layer in built.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    if features.shape[1] != expected:
        raise BadInput(
            f"{title(loss)}: features of shape {tuple(features.shape)} came, and the layer was built for "
            f"{expected} channels; train with batches like the one it was prepared with"
        )
    projected: Tensor = built(features)
    return projected


def _width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
