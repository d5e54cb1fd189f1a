"""Networks from timm and torchvision as encoders: resize, normalize, one forward pass without gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import file_hash
from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.architecture import Architecture
from wsi_kd.features.encoder_row import IMAGENET_MEAN, IMAGENET_STD, Color, EncoderRow
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.known_network import CLASSIFIER, build_known
from wsi_kd.features.preparation import Preparation, prepare_tiles
from wsi_kd.features.timm_weights import check_timm_weights, no_weights
from wsi_kd.features.torchvision_import import import_timm, import_torchvision
from wsi_kd.features.weights import load_weights, read_weights, weights_hash

TORCHVISION_INPUT_PX = 224
VECTOR_PER_TILE = 2  # axes of an output (tiles, features)


def _told(preparation: Preparation) -> dict[str, Any]:
    return {"resize_px": preparation.resize_px, "interpolation": preparation.interpolation}


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
        preparation: Preparation | None = None,
    ) -> None:
        """Freeze a network; see `create_network_encoder` for one with weights.

        Args:
            name: of the encoder.
            network: from normalized pixels (tiles, 3, input_px, input_px) to vectors (tiles, features).
            input_px: edge that the network is fed.
            pixel_mean: subtracted from pixels in 0-1.
            pixel_std: divides pixels in 0-1.
            model_arguments: told in `settings`.
            weights_hash: of the weights.
            dtype: that it computes in.
            device: that it computes on.
            preparation: how tiles are resized; None: this project's way, told nowhere as it always was so.

        Raises:
            BadInput: the network does not take this edge, or gives no vector.
        """
        self.name = name
        self.input_px: int | None = input_px
        self.weights_hash = weights_hash
        self.settings: Mapping[str, Any] = {
            "input_px": input_px,
            "pixel_mean": list(pixel_mean),
            "pixel_std": list(pixel_std),
            "model_arguments": dict(model_arguments),
            **({} if preparation is None else _told(preparation)),
        }
        self._input_px = input_px
        self._preparation = preparation or Preparation(input_px, input_px, "area")
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
            return self._forward(prepare_tiles(tiles, self._preparation)).float().cpu().numpy()
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
            raise BadInput(
                f"encoder '{self.name}': gives {shape} for one tile, expected one vector; "
                "wsi-kd encoders lists those whose tokens are read here"
            )
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
        name: `torchvision:<name>`, a name of timm, or a short name of the encoder table (never pretrained
            here: `create_known_encoder` looks up its weights).
        model_arguments: keywords of timm's constructor.
        pretrained: with its library's own weights; else with new ones, drawn from torch's global generator.

    Raises:
        BadInput: an unknown network, arguments it does not take, weights that cannot be had.
    """
    if name in ENCODERS:
        return _known_architecture(ENCODERS[name], model_arguments)
    if not name.startswith("torchvision:"):
        return _timm_architecture(name, model_arguments, pretrained=pretrained)
    if model_arguments:
        raise BadInput(f"encoder '{name}': only timm models take embed.model_arguments; remove them")
    return _torchvision_architecture(name.removeprefix("torchvision:"), pretrained=pretrained)


def timm_names() -> list[str]:
    """Every architecture name of the installed timm."""
    return list(import_timm().list_models())


def _known_architecture(row: EncoderRow, arguments: Mapping[str, Any]) -> Architecture:
    network = build_known(row, without_weights=False, arguments=arguments)
    sight = row.sight
    return Architecture(network, sight.input_px, sight.pixel_mean, sight.pixel_std, CLASSIFIER)


def _torchvision_architecture(name: str, *, pretrained: bool) -> Architecture:
    models = import_torchvision().models
    try:
        network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise no_weights(f"torchvision:{name}", error) from None
    return Architecture(
        PooledFeatures(network.features), TORCHVISION_INPUT_PX, IMAGENET_MEAN, IMAGENET_STD, ("classifier.",)
    )


def _timm_architecture(name: str, arguments: Mapping[str, Any], *, pretrained: bool) -> Architecture:
    timm = import_timm()
    if pretrained and ":" not in name and not timm.is_model_pretrained(name):
        raise no_weights(name, "timm has none for it")
    check_timm_weights(name, pretrained=pretrained)
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except (
        Exception
    ) as error:  # the hub client and timm raise their own, OSError, RuntimeError, ValueError...
        raise no_weights(name, error) from None
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
