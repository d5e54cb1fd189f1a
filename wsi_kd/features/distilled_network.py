"""The network of a distilled tile encoder: saved to its folder, and rebuilt from there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.core.tensors import publish_tensors, read_signed
from wsi_kd.features.distilled import (
    HEADER_NAME,
    KIND,
    REMAKE,
    WEIGHTS_NAME,
    EncoderForm,
    read_encoder_header,
)
from wsi_kd.features.network import create_architecture
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.tile_cnn import TILE_CNN, TileCnn


def build_network(name: str, model_arguments: Mapping[str, Any]) -> nn.Module:
    """Build an encoder's network with new weights, drawn from torch's global generator.

    Args:
        name: `tile_cnn`, `torchvision:<name>` or a name of timm.
        model_arguments: keywords of its constructor.

    Raises:
        BadInput: an unknown name, or arguments that the network does not take.
    """
    if name != TILE_CNN:
        return create_architecture(name, model_arguments=model_arguments, pretrained=False).network
    try:
        return TileCnn(**model_arguments)
    except TypeError as error:
        raise BadInput(
            f"encoder '{TILE_CNN}': its arguments do not fit ({error}); it takes channels"
        ) from None


def save_encoder(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    form: EncoderForm,
    feature_dim: int,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write the weights, then the header.

    Args:
        folder: made if it is not there.
        weights: state of `build_network(form.network, form.model_arguments)`.
        form: what rebuilds it.
        feature_dim: numbers that it gives for a tile.
        settings: what it was made with, as JSON values.
        facts: more of the header's members: what it learned from.
    """
    path = folder / WEIGHTS_NAME
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    publish_tensors(path, tensors, metadata={"format": "pt"})
    header = {
        **stamp(KIND, settings),
        **facts,
        "network": form.network,
        "model_arguments": dict(form.model_arguments),
        "input_px": form.input_px,
        "pixel_mean": list(form.pixel_mean),
        "pixel_std": list(form.pixel_std),
        "feature_dim": feature_dim,
        "weights_sha256": file_hash(path),
    }
    publish_json(folder / HEADER_NAME, header)


def load_encoder(folder: Path, *, name: str, precision: str, device: str) -> NetworkEncoder:
    """Rebuild a saved encoder under a name; nothing is unpickled.

    Raises:
        BadInput: as `read_encoder_header`; weights that do not fit the network, another number of features.
    """
    described = read_encoder_header(folder)
    form, path = described.form, described.weights_path
    network = build_network(form.network, form.model_arguments)
    try:
        network.load_state_dict(read_signed(path, sha256=described.weights_sha256, remake=REMAKE))
    except RuntimeError as error:
        what = " ".join(str(error).split())[:150]
        raise BadInput(
            f"{path}: not the weights of a {form.network} ({what}); make it anew with: {REMAKE}"
        ) from None
    place = choose_device(device)
    encoder = NetworkEncoder(
        name,
        network,
        input_px=form.input_px,
        pixel_mean=form.pixel_mean,
        pixel_std=form.pixel_std,
        model_arguments=form.model_arguments,
        weights_hash=described.weights_sha256,
        dtype=matmul_dtype(precision, place),
        device=place,
    )
    if encoder.feature_dim != described.feature_dim:
        raise BadInput(
            f"{folder / HEADER_NAME}: says {described.feature_dim} features, the network gives "
            f"{encoder.feature_dim}; make it anew with: {REMAKE}"
        )
    return encoder
