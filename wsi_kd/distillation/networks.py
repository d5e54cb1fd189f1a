"""Networks by name: `mlp`, `cnn_small`, every `timm:<name>`, and functions of the user's.

Each takes the shape of one sample and the number of classes, and gives logits.
"""

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.distillation.python_names import PREFIX, load_function
from wsi_kd.features.torchvision_import import import_timm
from wsi_kd.features.weights import read_weights
from wsi_kd.kd.batches import describe, find_logits
from wsi_kd.kd.evaluation import quiet

TIMM: Final = "timm:"
SHOWN_NAMES: Final = 5
SHOWN_KEYS: Final = 3
IMAGE_AXES: Final = 3
PROBED: Final = 2
"""Samples that a network is tried with."""


class Mlp(nn.Module):
    """Linear layers with ReLU, `hidden.0`, `hidden.1`, ..., and the linear `head`; inputs are flattened."""

    def __init__(
        self, input_shape: Sequence[int], classes: int, *, hidden: Sequence[int] = (64,), dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *hidden]
        pairs = pairwise(widths)
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(narrow, wide), nn.ReLU()) for narrow, wide in pairs
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: Float[Tensor, "samples ..."]) -> Float[Tensor, "samples classes"]:
        """Return logits."""
        vectors = inputs.flatten(start_dim=1)
        for layer in self.hidden:
            vectors = self.dropout(layer(vectors))
        return self.head(vectors)  # type: ignore[no-any-return]  # nn.Module's call is untyped


class CnnSmall(nn.Module):
    """Blocks `blocks.0`, ... of 3 x 3 convolution, batch norm and ReLU; then the mean over pixels and `head`.

    Every block after the first halves the picture, as long as it has two pixels to halve.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        channels: Sequence[int] = (16, 32),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != IMAGE_AXES:
            raise BadInput(
                f"network cnn_small: it reads images (channels, height, width), the data's samples are "
                f"{tuple(input_shape)}; take mlp"
            )
        widths, edge = [input_shape[0], *channels], min(input_shape[1:])
        blocks = []
        for depth, (narrow, wide) in enumerate(pairwise(widths)):
            stride = 2 if depth and edge > 1 else 1
            edge = math.ceil(edge / stride)
            layer = nn.Conv2d(narrow, wide, kernel_size=3, stride=stride, padding=1, bias=False)
            blocks.append(nn.Sequential(layer, nn.BatchNorm2d(wide), nn.ReLU()))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(
        self, images: Float[Tensor, "samples channels height width"]
    ) -> Float[Tensor, "samples classes"]:
        """Return logits."""
        pooled = self.blocks(images).mean(dim=(2, 3))
        return self.head(self.dropout(pooled))  # type: ignore[no-any-return]  # as above


NETWORKS: Final[dict[str, Callable[..., nn.Module]]] = {"mlp": Mlp, "cnn_small": CnnSmall}


class NetworkPlan(NamedTuple):
    """A network before it is built."""

    name: str
    """Of `NETWORKS`, `timm:<name>` or `python:module.function`."""
    options: dict[str, Any]
    """Keywords of its constructor."""
    weights: Path | None = None
    """File to load (.safetensors, or .pt read without running code from it); None: new weights."""


def create_network(plan: NetworkPlan, *, input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build a network and try it on two samples; new weights are drawn from torch's global generator.

    Args:
        plan: which.
        input_shape: of one sample.
        classes: of the logits.

    Raises:
        BadInput: an unknown name, options it does not have, samples it cannot read, logits of another number
            of classes, weights that do not fit.
    """
    name = plan.name
    try:
        network = _make(plan, tuple(input_shape), classes)
    except BadInput:
        raise
    except Exception as error:  # a network of timm or the user's may raise anything; no download either
        raise BadInput(f"network {name}: cannot be built ({_told(error)}); correct its arguments") from None
    if plan.weights is not None:
        _load(network, plan.weights, name=name)
    _try(network, name=name, input_shape=tuple(input_shape), classes=classes)
    return network


def _make(plan: NetworkPlan, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    name, options = plan.name, plan.options
    if name in NETWORKS:
        return NETWORKS[name](input_shape, classes, **options)
    if name.startswith(TIMM):
        return _timm(plan, input_shape, classes)
    if not name.startswith(PREFIX):
        raise unknown_name("network", name, [*NETWORKS, f"{TIMM}<name>", f"{PREFIX}module.function"])
    network: Any = load_function(name)(input_shape=input_shape, classes=classes, **options)
    if not isinstance(network, nn.Module):
        raise BadInput(f"network {name}: it returned {type(network).__name__}; expected a torch.nn.Module")
    return network


def _timm(plan: NetworkPlan, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    if len(input_shape) != IMAGE_AXES:
        raise BadInput(
            f"network {plan.name}: it reads images, the data's samples are {input_shape}; take mlp"
        )
    timm, name = import_timm(), plan.name.removeprefix(TIMM)
    known = timm.list_models()
    if ":" not in name and name.split(".", 1)[0] not in known:
        raise unknown_name("timm network", name, get_close_matches(name, known, n=SHOWN_NAMES, cutoff=0.0))
    network: nn.Module = timm.create_model(
        name, num_classes=classes, in_chans=input_shape[0], **{"pretrained": False, **plan.options}
    )
    return network


def _load(network: nn.Module, path: Path, *, name: str) -> None:
    """Load weights that fit in every name and shape."""
    if not path.is_file():
        raise BadInput(f"{path}: no such weight file; correct `weights` of the network {name}")
    given, own = read_weights(path), network.state_dict()
    differing = sorted(
        key
        for key in {*given, *own}
        if key not in given or key not in own or given[key].shape != own[key].shape
    )
    if differing:
        first = ", ".join(differing[:SHOWN_KEYS])
        raise BadInput(
            f"{path}: not the weights of this {name}: {len(differing)} tensors are missing, unexpected or of "
            f"another shape ({first}); correct `weights` or the network's options"
        )
    network.load_state_dict(given)


@torch.no_grad()
def _try(network: nn.Module, *, name: str, input_shape: tuple[int, ...], classes: int) -> None:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with quiet(network):
        try:
            given = network(torch.zeros(PROBED, *input_shape, device=device))
        except Exception as error:  # a network may raise anything on inputs that it was not made for
            raise BadInput(
                f"network {name}: it cannot read samples {input_shape} ({_told(error)}); change its "
                "arguments or the data, or take another network"
            ) from None
    logits = find_logits(given)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (PROBED, classes):
        found = describe(given if logits is None else logits)
        raise BadInput(
            f"network {name}: of {PROBED} samples it made {found}; expected logits ({PROBED}, {classes}), "
            "one a class of the data"
        )


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
