"""From the section `embed` to the encoder it describes: one way for embed, infer and doctor."""

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.core.provenance import package_versions
from wsi_kd.features.distilled import distilled_folder, is_distilled, read_encoder_header
from wsi_kd.features.encoders import STAIN_TEXTURE, Encoder, create_encoder
from wsi_kd.features.pixels import PIXELS, PIXELS_DTYPE
from wsi_kd.settings.slides import EmbedSettings


def build_encoder(embed: EmbedSettings) -> Encoder:
    """Build the encoder; see `create_encoder` for its errors."""
    return create_encoder(
        embed.encoder,
        weights=embed.weights,
        input_px=embed.input_px,
        pixel_mean=embed.pixel_mean,
        pixel_std=embed.pixel_std,
        model_arguments=embed.model_arguments,
        precision=embed.precision,
        device=embed.device,
    )


def weights_identity(embed: EmbedSettings) -> dict[str, str]:
    """Tell weights apart without building the encoder: by the file, or by the timm that chooses them.

    Raises:
        BadInput: no such weight file, a distilled encoder's folder that cannot be used.
    """
    if is_distilled(embed.encoder):
        folder = distilled_folder(embed.encoder, embed.weights)
        return {"weights_sha256": read_encoder_header(folder).weights_sha256}
    if embed.weights is not None:
        if not embed.weights.is_file():
            raise BadInput(f"{embed.weights}: no such weight file; correct embed.weights")
        return {"weights_sha256": file_hash(embed.weights)}
    without_network = embed.encoder in {STAIN_TEXTURE, PIXELS}
    return {} if without_network else {"timm": package_versions()["timm"]}


def stored_dtype(embed: EmbedSettings) -> str:
    """Return the type that features are stored in: what embed.dtype says, but pixels as what they are."""
    return PIXELS_DTYPE if embed.encoder == PIXELS else embed.dtype
