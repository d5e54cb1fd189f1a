"""Networks from timm and torchvision as encoders: resize, normalize, one forward pass without gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import file_hash
from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.torchvision_import import import_timm, import_torchvision
from wsi_kd.features.weights import load_weights, read_weights, weights_hash

Color = tuple[float, float, float]

IMAGENET_MEAN: Color = (0.485, 0.456, 0.406)
IMAGENET_STD: Color = (0.229, 0.224, 0.225)
TORCHVISION_INPUT_PX = 224
VECTOR_PER_TILE = 2  # axes of an output (tiles, features)


class Architecture(NamedTuple):
    """A network without its classifier, and what it asks of its input."""

    network: nn.Module
    input_px: int
    pixel_mean: Color
    pixel_std: Color
    classifier: tuple[str, ...]
    """How the names of classifier weights begin; such weights in a file are left aside."""


class PooledFeatures(nn.Module):
    """The convolutional part of a torchvision network, averaged over the image; its key names stay."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Float[Tensor, "tiles features"]:
        """Average the last feature map."""
        pooled: Tensor = self.features(pixels).mean(dim=(2, 3))
        return pooled


class NetworkEncoder:
    """An `Encoder` around a frozen network: uint8 RGB tiles of any edge in, float32 features out."""

    feature_names: tuple[str, ...] = ()
    encodes_in_threads = False

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        input_px: int,
        pixel_mean: Color,
        pixel_std: Color,
        model_arguments: Mapping[str, Any],
        weights_hash: str,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.name = name
        self.input_px: int | None = input_px
        self.weights_hash = weights_hash
        self.settings: Mapping[str, Any] = {
            "input_px": input_px,
            "pixel_mean": list(pixel_mean),
            "pixel_std": list(pixel_std),
            "model_arguments": dict(model_arguments),
        }
        self._input_px = input_px
        self._dtype = dtype
        self._device = device
        self._mean = torch.tensor(pixel_mean, device=device).view(1, 3, 1, 1) * 255.0
        self._scale = 1.0 / (torch.tensor(pixel_std, device=device).view(1, 3, 1, 1) * 255.0)
        network = network.eval().requires_grad_(requires_grad=False)
        self._network = network.to(device, dtype)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.feature_dim = self._probe()

    def __call__(self, tiles: TileBatch) -> Float32[np.ndarray, "tiles features"]:
        """Encode tiles (tiles, edge, edge, 3), one row a tile.

        Raises:
            RunFailed: the GPU's memory does not hold the batch.
        """
        if not len(tiles):
            return np.zeros((0, self.feature_dim), np.float32)
        try:
            return self._forward(self._resized(tiles)).float().cpu().numpy()
        except torch.OutOfMemoryError:
            raise RunFailed(
                f"encoder '{self.name}': {len(tiles)} tiles do not fit the GPU's memory; "
                "lower embed.batch_size"
            ) from None

    @torch.inference_mode()
    def _forward(self, tiles: np.ndarray) -> Tensor:
        # Height, width, color seen as color, height, width is torch's channels_last: nothing is copied.
        pixels = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2).float()
        encoded: Tensor = self._network(((pixels - self._mean) * self._scale).to(self._dtype))
        return encoded

    def _resized(self, tiles: TileBatch) -> np.ndarray:
        edge = tiles.shape[1]
        size = (self._input_px, self._input_px)
        if tiles.shape[1:3] == size:
            return np.ascontiguousarray(tiles)
        how = cv2.INTER_AREA if self._input_px < edge else cv2.INTER_LINEAR
        return np.stack([cv2.resize(np.ascontiguousarray(tile), size, interpolation=how) for tile in tiles])

    def _probe(self) -> int:
        blank = np.zeros((1, self._input_px, self._input_px, 3), np.uint8)
        try:
            shape = tuple(self._forward(blank).shape)
        except (AssertionError, RuntimeError, ValueError) as error:
            what = " ".join(str(error).split())[:150]
            raise BadInput(
                f"encoder '{self.name}': does not take tiles of {self._input_px} px ({what}); "
                "leave embed.input_px unset or give the size it asks for"
            ) from None
        if len(shape) != VECTOR_PER_TILE:
            raise BadInput(f"encoder '{self.name}': gives {shape} for one tile, expected one vector")
        return shape[1]


def create_network_encoder(
    name: str,
    *,
    weights: Path | None,
    input_px: int | None,
    pixel_mean: Color | None,
    pixel_std: Color | None,
    model_arguments: Mapping[str, bool | int | float | str],
    precision: str,
    device: str,
) -> NetworkEncoder:
    """Build a frozen network with weights from a file, or with its library's own (downloaded once).

    Raises:
        BadInput: no weights to be had (never random ones), a file that does not fit, an unknown device.
    """
    place = choose_device(device)
    given = None if weights is None else read_weights(weights)
    architecture = create_architecture(name, model_arguments=model_arguments, pretrained=weights is None)
    if weights is not None and given is not None:
        load_weights(architecture.network, given, where=weights, classifier=architecture.classifier)
    return NetworkEncoder(
        name,
        architecture.network,
        input_px=input_px or architecture.input_px,
        pixel_mean=pixel_mean or architecture.pixel_mean,
        pixel_std=pixel_std or architecture.pixel_std,
        model_arguments=model_arguments,
        weights_hash=weights_hash(architecture.network) if weights is None else file_hash(weights),
        dtype=matmul_dtype(precision, place),
        device=place,
    )


def create_architecture(name: str, *, model_arguments: Mapping[str, Any], pretrained: bool) -> Architecture:
    """Build a network of timm or torchvision without its classifier.

    Args:
        name: `torchvision:<name>` or a name of timm.
        model_arguments: keywords of timm's constructor.
        pretrained: with its library's own weights; else with new ones, drawn from torch's global generator.

    Raises:
        BadInput: an unknown network, arguments it does not take, weights that cannot be had.
    """
    if not name.startswith("torchvision:"):
        return _timm_architecture(name, model_arguments, pretrained=pretrained)
    if model_arguments:
        raise BadInput(f"encoder '{name}': only timm models take embed.model_arguments; remove them")
    return _torchvision_architecture(name.removeprefix("torchvision:"), pretrained=pretrained)


def timm_names() -> list[str]:
    """Every architecture name of the installed timm."""
    return list(import_timm().list_models())


def _torchvision_architecture(name: str, *, pretrained: bool) -> Architecture:
    models = import_torchvision().models
    try:
        network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise _no_weights(f"torchvision:{name}", error) from None
    return Architecture(
        PooledFeatures(network.features), TORCHVISION_INPUT_PX, IMAGENET_MEAN, IMAGENET_STD, ("classifier.",)
    )


def _timm_architecture(name: str, arguments: Mapping[str, Any], *, pretrained: bool) -> Architecture:
    timm = import_timm()
    if pretrained and ":" not in name and not timm.is_model_pretrained(name):
        raise _no_weights(name, "timm has none for it")
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except (
        Exception
    ) as error:  # the hub client and timm raise their own, OSError, RuntimeError, ValueError...
        raise _no_weights(name, error) from None
    asked: Mapping[str, Any] = timm.data.resolve_data_config({}, model=network)
    classifier = network.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return Architecture(
        network,
        int(asked["input_size"][-1]),
        tuple(asked["mean"]),
        tuple(asked["std"]),
        tuple(f"{part}." for part in names),
    )


def _no_weights(name: str, reason: object) -> BadInput:
    what = " ".join(str(reason).split())[:200]
    return BadInput(
        f"encoder '{name}': cannot be had with its weights ({what}); give a local file as embed.weights, "
        "or run once with network access (and a hub login where one is asked)"
    )
