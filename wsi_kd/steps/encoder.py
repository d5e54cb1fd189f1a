"""From the section `embed` to the encoder it describes: one way for embed, infer and doctor."""

import logging
from pathlib import Path

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import package_versions
from wsi_kd.features.distilled import distilled_folder, is_distilled, read_encoder_header
from wsi_kd.features.encoder_notes import encoder_notes
from wsi_kd.features.encoder_row import RESIZING
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.encoders import STAIN_TEXTURE, Encoder, NetworkLike, create_encoder
from wsi_kd.features.pixels import PIXELS, PIXELS_DTYPE
from wsi_kd.features.weight_sources import find_weights, weights_sha256
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import EmbedSettings

LOG = logging.getLogger(__name__)


def build_encoder(embed: EmbedSettings) -> Encoder:
    """Build the encoder; see `create_encoder` for its errors."""
    encoder = create_encoder(
        embed.encoder,
        weights=embed.weights,
        weights_dir=embed.weights_dir,
        input_px=embed.input_px,
        pixel_mean=embed.pixel_mean,
        pixel_std=embed.pixel_std,
        model_arguments=embed.model_arguments,
        precision=embed.precision,
        device=embed.device,
    )
    if embed.compile:
        if not isinstance(encoder, NetworkLike):
            raise BadInput(
                f"encoder '{embed.encoder}' is no network: embed.compile has nothing to do; remove it"
            )
        encoder.compile()
    return encoder


def gpu_of(encoder: Encoder) -> str | None:
    """Return the driver's name of the GPU that an encoder computes on; None where it does not."""
    return encoder.gpu_uuid if isinstance(encoder, NetworkLike) else None


def notes_of(settings: Settings) -> list[str]:
    """Return what a user should know of these tiles under this encoder."""
    tile = settings.tile
    return encoder_notes(settings.embed.encoder, tile_mpp=tile.tile_mpp, tile_px=tile.tile_px)


def tell_notes(settings: Settings) -> None:
    """Say it in the log."""
    for note in notes_of(settings):
        LOG.warning("%s", note)


def weights_identity(embed: EmbedSettings) -> dict[str, str]:
    """Tell weights apart without building the encoder: by the file, or by the timm that chooses them.

    The weights of an encoder of the table are its identity: they are fetched here where they are not yet.

    Raises:
        BadInput: no such weight file, a distilled encoder's folder that cannot be used, weights that cannot
            be had.
        RunFailed: a download broke off.
    """
    if is_distilled(embed.encoder):
        folder = distilled_folder(embed.encoder, embed.weights)
        return {"weights_sha256": read_encoder_header(folder).weights_sha256}
    if embed.encoder in {STAIN_TEXTURE, PIXELS}:
        return {}
    path = _weights_path(embed)
    return {"timm": package_versions()["timm"]} if path is None else {"weights_sha256": weights_sha256(path)}


def _weights_path(embed: EmbedSettings) -> Path | None:
    """Find the weight file; None where timm or torchvision choose it themselves."""
    if embed.encoder in ENCODERS:
        row = ENCODERS[embed.encoder]
        return find_weights(row, weights=embed.weights, weights_dir=embed.weights_dir)
    if embed.weights is not None:
        if not embed.weights.is_file():
            raise BadInput(f"{embed.weights}: no such weight file; correct embed.weights")
        return embed.weights
    if embed.weights_dir is None:
        return None
    from wsi_kd.features.timm_weights import offline_weights  # loads torch and timm

    return offline_weights(embed.encoder, embed.weights_dir)


def resizing_identity(embed: EmbedSettings) -> dict[str, int]:
    """Tell apart what tiles were resized by: an encoder that takes them as they are has none."""
    return {} if embed.encoder == STAIN_TEXTURE else {"resizing": RESIZING}


def stored_dtype(embed: EmbedSettings) -> str:
    """Return the type that features are stored in: what embed.dtype says, but pixels as what they are."""
    return PIXELS_DTYPE if embed.encoder == PIXELS else embed.dtype
