"""Whether tiles are cut as an encoder was trained: a note for the log and the header of the features."""

from typing import Final

from wsi_kd.features.encoder_row import EncoderRow
from wsi_kd.features.encoder_table import ENCODERS

TOLERANCE: Final = 0.2
"""Share by which the resolution may differ from that of the training without a note."""


def encoder_notes(encoder: str, *, tile_mpp: float, tile_px: int) -> list[str]:
    """Return what a user should know of these tiles under this encoder; nothing for encoders of no table.

    A hub name of an encoder of the table is told the short name: timm may read its tokens otherwise.

    Args:
        encoder: embed.encoder.
        tile_mpp: resolution of the tiles in um/px.
        tile_px: their edge.
    """
    row = ENCODERS.get(encoder)
    if row is None:
        return _short_name_note(encoder)
    note = scale_note(row, tile_mpp=tile_mpp, tile_px=tile_px)
    return [] if note is None else [note]


def _short_name_note(encoder: str) -> list[str]:
    hub = encoder.partition(":")[2].lower()
    same = [row.name for row in ENCODERS.values() if row.hub.lower() == hub and hub]
    return [
        f"encoder '{encoder}': handed to timm as it is; "
        f"embed.encoder: {name} feeds it and reads its tokens as its authors do"
        for name in same
    ]


def scale_note(row: EncoderRow, *, tile_mpp: float, tile_px: int) -> str | None:
    """Compare the resolution of the tiles, and that at which the network sees them, with the training's.

    A tile of n px at m um/px that is resized to r px is seen at m n / r um/px.

    >>> from wsi_kd.features.encoder_rows_gated import UNI
    >>> scale_note(UNI, tile_mpp=0.5, tile_px=224) is None
    True
    >>> scale_note(UNI, tile_mpp=1.0, tile_px=256)
    "encoder 'uni': tiles are 1 um/px, it was trained at 0.5; set tile.tile_mpp: 0.5 and tile.tile_px: 256"
    """
    scale, resize_px = row.scale, row.sight.resize_px
    trained = ", ".join(f"{mpp:g}" for mpp in scale.trained_mpp)
    remedy = f"set tile.tile_mpp: {scale.mpp:g} and tile.tile_px: {scale.tile_px}"
    if all(_apart(tile_mpp, mpp) for mpp in scale.trained_mpp):
        return f"encoder '{row.name}': tiles are {tile_mpp:g} um/px, it was trained at {trained}; {remedy}"
    seen = tile_mpp * tile_px / resize_px
    if all(_apart(seen, mpp * scale.tile_px / resize_px) for mpp in scale.trained_mpp):
        return (
            f"encoder '{row.name}': tiles of {tile_px} px are resized to {resize_px} px and seen at "
            f"{seen:.2g} um/px, it was trained at {trained}; {remedy}"
        )
    return None


def _apart(first: float, second: float) -> bool:
    return max(first, second) / min(first, second) > 1.0 + TOLERANCE
