"""Distilled tile encoders on disk: a folder with `encoder.safetensors` and, written last, `encoder.json`.

`embed.encoder: distilled:<folder>` names one. The JSON file rebuilds the network and holds all that shapes
its features (edge, mean and deviation of the pixels), and the hash of the weights. This file reads no
weights, so that a plan can be checked without loading torch; `distilled_network` does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, read_json
from wsi_kd.core.places import DISTILLED
from wsi_kd.core.provenance import check_schema

KIND: Final = "encoder"
REMAKE: Final = "wsi-kd distill"
HEADER_NAME: Final = "encoder.json"
WEIGHTS_NAME: Final = "encoder.safetensors"

Color = tuple[float, float, float]


class EncoderForm(NamedTuple):
    """What rebuilds an encoder without its weights."""

    network: str
    """A name of timm or torchvision, or `tile_cnn`."""
    model_arguments: Mapping[str, Any]
    """Keywords of its constructor, as JSON values."""
    input_px: int
    """Edge that tiles are resized to."""
    pixel_mean: Color
    pixel_std: Color
    """Of pixels in 0-1."""


class Described(NamedTuple):
    """What a folder's header says."""

    form: EncoderForm
    feature_dim: int
    weights_path: Path
    weights_sha256: str


def is_distilled(name: str) -> bool:
    """Tell whether an encoder's name is that of a folder."""
    return name.startswith(DISTILLED)


def distilled_folder(name: str, weights: Path | None) -> Path:
    """Return the folder that a name means; `weights` is its `encoder.safetensors` where that was moved.

    Raises:
        BadInput: a name without a folder, a weight file of another name.
    """
    if weights is not None:
        if weights.name != WEIGHTS_NAME:
            raise BadInput(
                f"encoder '{name}': reads {WEIGHTS_NAME} of its folder, embed.weights is {weights}; "
                f"remove it, or give the {WEIGHTS_NAME} of the folder that was moved"
            )
        return weights.parent
    folder = name.removeprefix(DISTILLED)
    if not folder:
        raise BadInput(f"encoder '{name}': names no folder; write distilled:<folder>, made by: {REMAKE}")
    return Path(folder)


def read_encoder_header(folder: Path) -> Described:
    """Read a folder's header and check that the weights beside it are its own.

    Raises:
        BadInput: an absent or damaged file, another schema, weights that are not those of the header.
    """
    path = folder / HEADER_NAME
    header = read_json(path, remake=REMAKE)
    check_schema(header, KIND, where=path, remake=REMAKE)
    try:
        form = EncoderForm(
            network=str(header["network"]),
            model_arguments=dict(header["model_arguments"]),
            input_px=int(header["input_px"]),
            pixel_mean=_color(header["pixel_mean"]),
            pixel_std=_color(header["pixel_std"]),
        )
        described = Described(
            form, int(header["feature_dim"]), folder / WEIGHTS_NAME, str(header["weights_sha256"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: does not describe an encoder ({error}); make it anew with: {REMAKE}"
        ) from None
    if not described.weights_path.is_file():
        raise BadInput(f"{described.weights_path}: no such file; make it anew with: {REMAKE}")
    if file_hash(described.weights_path) != described.weights_sha256:
        raise BadInput(
            f"{described.weights_path}: not the weights of its header (sha256 differs); "
            f"make it anew with: {REMAKE}"
        )
    return described


def _color(value: Any) -> Color:
    red, green, blue = (float(part) for part in value)
    return red, green, blue
