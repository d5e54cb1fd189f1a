"""Networks of timm, torchvision and the encoder table, built and filled with weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.features.architecture import Architecture
from wsi_kd.features.encoder_row import IMAGENET_MEAN, IMAGENET_STD, Color, EncoderRow
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.known_network import CLASSIFIER, build_known
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.timm_weights import check_timm_weights, no_weights
from wsi_kd.features.torchvision_import import import_timm, import_torchvision
from wsi_kd.features.weights import load_weights, read_weights, weights_hash

TORCHVISION_INPUT_PX = 224


class PooledFeatures(nn.Module):
    """The convolutional part of a torchvision network, averaged over the image; its key names stay."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Float[Tensor, "tiles features"]:
        """Average the last feature map."""
        pooled: Tensor = self.features(pixels).mean(dim=(2, 3))
        return pooled


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
