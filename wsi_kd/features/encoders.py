"""Encoders by name: the published ones of `encoder_table`, and those of this project, torchvision and timm.

| name | what | weights |
|---|---|---|
| `stain_texture` | 100 descriptors, no network | none |
| `pixels` | the tile itself, for projectors that learn from images | none |
| a short name (`uni`, ...) | `encoder_table`: built and fed as its authors do | file, folder or hub |
| `torchvision:mobilenet_v2` | 1280 features, torchvision's key names | file, or torchvision's own |
| `torchvision:squeezenet1_1` | 512 features, torchvision's key names | file, or torchvision's own |
| a timm name (`resnet50.a1_in1k`) | `timm.create_model(name, num_classes=0)` | file, or timm's own |
| `hf-hub:owner/model` | the same, handed to timm unchanged | file, or the hub's |
| `distilled:<folder>` | what `wsi-kd distill` made of a larger one | the folder's |

A file's weights may expect another normalization than the name's default (ImageNet's for torchvision): then
set `pixel_mean` and `pixel_std`, e.g. 0.5 three times for networks converted from TensorFlow. No encoder runs
on random weights.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.files import content_hash
from wsi_kd.core.shapes import FeatureArray, TileBatch
from wsi_kd.features.distilled import distilled_folder, is_distilled, read_encoder_header
from wsi_kd.features.encoder_table import ENCODERS, refuse_other_settings
from wsi_kd.features.pixels import PIXELS, PixelsEncoder
from wsi_kd.features.stain_texture import FEATURE_NAMES, STAIN_TEXTURE_VERSION, stain_texture

STAIN_TEXTURE = "stain_texture"
TORCHVISION_NAMES = ("torchvision:mobilenet_v2", "torchvision:squeezenet1_1")
SHOWN_NAMES = 5


@runtime_checkable
class Encoder(Protocol):
    """A frozen function from tiles to features."""

    name: str
    feature_dim: int
    input_px: int | None
    """Edge that tiles are resized to; None: tiles are taken as they are."""
    weights_hash: str
    feature_names: tuple[str, ...]
    """One name a feature, or none at all."""
    settings: Mapping[str, Any]
    """What beside name and weights shapes the features, as JSON values: a checkpoint compares it."""
    encodes_in_threads: bool
    """Whether it is best called from the reading threads: true where it does not share out its own work."""

    def __call__(self, tiles: TileBatch) -> FeatureArray:
        """Encode tiles, one row a tile: float32, or uint8 pixels."""
        ...


@runtime_checkable
class PreparedEncoder(Encoder, Protocol):
    """An encoder that is fed batches of its own making, and need not have ended one to begin the next."""

    prepared_px: int
    """Edge of a prepared tile."""
    as_read_px: int | None
    """Edge of a tile that `prepare` would only copy; None: it changes every tile."""

    def batch_array(self, tiles: int) -> TileBatch:
        """Return an array for so many prepared tiles."""
        ...

    def prepare(self, tiles: TileBatch, out: TileBatch) -> None:
        """Resize tiles into rows of a batch; on any thread."""
        ...

    def begin(self, batch: TileBatch, count: int) -> Callable[[], FeatureArray]:
        """Begin to encode the first tiles of a batch, which stays as it is until the result was asked for."""
        ...


@runtime_checkable
class NetworkLike(PreparedEncoder, Protocol):
    """A `PreparedEncoder` that torch computes."""

    gpu_uuid: str | None
    """The driver's name of its GPU; None on a CPU."""

    def compile(self) -> None:
        """Have torch compile it."""
        ...


class StainTextureEncoder:
    """The `Encoder` around `stain_texture`."""

    name = STAIN_TEXTURE
    feature_dim = len(FEATURE_NAMES)
    input_px: int | None = None
    weights_hash = content_hash({"stain_texture": STAIN_TEXTURE_VERSION, "features": list(FEATURE_NAMES)})
    feature_names = FEATURE_NAMES
    settings: Mapping[str, Any] = {}
    encodes_in_threads = True

    def __call__(self, tiles: TileBatch) -> Float32[np.ndarray, "tiles features"]:
        """Describe tiles, one row a tile."""
        return stain_texture(tiles)


def create_encoder(
    name: str,
    *,
    weights: Path | None,
    input_px: int | None,
    pixel_mean: tuple[float, float, float] | None,
    pixel_std: tuple[float, float, float] | None,
    model_arguments: Mapping[str, bool | int | float | str],
    precision: str,
    device: str,
    weights_dir: Path | None = None,
) -> Encoder:
    """Build an encoder; see the table above for names.

    Args:
        name: which encoder.
        weights: local weight file; None: the library's own weights, downloaded once.
        input_px: edge that tiles are resized to; None: what the encoder asks for.
        pixel_mean: subtracted from pixels in 0-1; None: what the encoder asks for.
        pixel_std: divides pixels in 0-1; None: what the encoder asks for.
        model_arguments: passed on to timm's constructor, as a model card asks.
        precision: auto, float32 or bfloat16; auto is bfloat16 on a GPU and float32 on a CPU.
        device: auto, cpu, cuda or cuda:N.
        weights_dir: offline folder that is looked through before any network; `weights` wins.

    Raises:
        BadInput: an unknown name, weights that do not fit or cannot be had, settings the encoder cannot use.
        RunFailed: a download broke off.
    """
    fixed = {"pixel_mean": pixel_mean, "pixel_std": pixel_std, "model_arguments": model_arguments or None}
    if name in {STAIN_TEXTURE, PIXELS}:
        return _without_network(name, input_px, weights=weights, **fixed)
    if is_distilled(name):
        _refuse_own_settings(name, **fixed, input_px=input_px)
        from wsi_kd.features.distilled_network import load_encoder

        return load_encoder(distilled_folder(name, weights), name=name, precision=precision, device=device)
    if name in ENCODERS:
        refuse_other_settings(ENCODERS[name], **fixed)
        from wsi_kd.features.known_encoder import create_known_encoder

        return create_known_encoder(
            ENCODERS[name],
            weights=weights,
            weights_dir=weights_dir,
            input_px=input_px,
            precision=precision,
            device=device,
        )
    check_encoder_name(name)
    from wsi_kd.features.network import create_network_encoder
    from wsi_kd.features.timm_weights import offline_weights

    return create_network_encoder(
        name,
        weights=weights or offline_weights(name, weights_dir),
        input_px=input_px,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
        model_arguments=model_arguments,
        precision=precision,
        device=device,
    )


def _without_network(name: str, input_px: int | None, **given: object) -> Encoder:
    if name == PIXELS:
        _refuse_network_settings(name, **given)
        return _pixels_encoder(input_px)
    _refuse_network_settings(name, **given, input_px=input_px)
    return StainTextureEncoder()


def _pixels_encoder(input_px: int | None) -> PixelsEncoder:
    if input_px is None:
        raise BadInput(
            f"encoder '{PIXELS}' needs embed.input_px, the edge in pixels that tiles are stored at; "
            "the value of tile.tile_px stores them as they are"
        )
    return PixelsEncoder(input_px)


def _refuse_network_settings(name: str, **given: object) -> None:
    unusable = [f"embed.{key}" for key, value in given.items() if value is not None]
    if unusable:
        raise BadInput(f"encoder '{name}' is no network and takes no {', '.join(unusable)}; remove it")


def _refuse_own_settings(name: str, **given: object) -> None:
    unusable = [f"embed.{key}" for key, value in given.items() if value is not None]
    if unusable:
        raise BadInput(
            f"encoder '{name}' reads what it expects of pixels in its folder and takes no "
            f"{', '.join(unusable)}; remove it"
        )


def check_encoder_name(name: str, weights: Path | None = None) -> None:
    """Refuse a name nobody knows; names with a source (`hf-hub:...`) are the hub's to judge.

    Of a distilled encoder the folder is checked, which `weights` may name.

    Raises:
        BadInput: with the nearest known names; a folder that is no encoder's.
    """
    own = (STAIN_TEXTURE, PIXELS, *TORCHVISION_NAMES)
    if name in own or name in ENCODERS:
        return
    if is_distilled(name):
        read_encoder_header(distilled_folder(name, weights))
        return
    if name.startswith("torchvision:") or get_close_matches(name, own, n=1, cutoff=0.8):
        raise unknown_name("encoder", name, own)
    near = get_close_matches(name.lower(), ENCODERS, n=SHOWN_NAMES, cutoff=0.6)
    if ":" in name:
        return
    from wsi_kd.features.network import timm_names

    known = timm_names()
    if name.split(".", 1)[0] not in known:
        of_timm = get_close_matches(name, known, n=SHOWN_NAMES, cutoff=0.5)
        raise unknown_name("encoder", name, {*own, *near, *of_timm})
