"""The published tile encoders by short name, as text and as JSON; this file loads no library.

`embed.encoder` takes a short name of this table, or one of `OTHER_NAMES`. `docs/encoders.md` holds
`markdown_table()`; `wsi-kd encoders` prints the same facts.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.features.encoder_row import Color, EncoderRow
from wsi_kd.features.encoder_rows_gated import GATED_ROWS
from wsi_kd.features.encoder_rows_open import OPEN_ROWS

ENCODERS: Final[Mapping[str, EncoderRow]] = {row.name: row for row in (*GATED_ROWS, *OPEN_ROWS)}


class OtherName(NamedTuple):
    """A kind of name beside the table's."""

    name: str
    what: str
    weights: str


OTHER_NAMES: Final = (
    OtherName("stain_texture", "100 descriptors of stain and texture, no network", "none"),
    OtherName("pixels", "the tile itself, for projectors that learn from images", "none"),
    OtherName(
        "torchvision:mobilenet_v2", "1280 features, ImageNet, torchvision's key names", "file or torchvision"
    ),
    OtherName(
        "torchvision:squeezenet1_1", "512 features, ImageNet, torchvision's key names", "file or torchvision"
    ),
    OtherName("<timm name>", "any network of timm, such as resnet50.a1_in1k", "file or timm's own"),
    OtherName("hf-hub:<owner>/<model>", "a timm network of the hub, handed to timm", "file or the hub's"),
    OtherName("distilled:<folder>", "what wsi-kd distill made of a larger encoder", "the folder's"),
)


def find_row(name: str) -> EncoderRow:
    """Return the table's line of a short name.

    Raises:
        BadInput: no such name; the nearest one is told.
    """
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    return ENCODERS[name]


def refuse_other_settings(row: EncoderRow, **given: object) -> None:
    """Refuse settings that a published encoder fixes.

    Raises:
        BadInput: one of `given` is set; it is named.
    """
    unusable = [f"embed.{key}" for key, value in given.items() if value]
    if unusable:
        raise BadInput(
            f"encoder '{row.name}' is built and fed as its authors do and takes no {', '.join(unusable)}; "
            f"remove it, or build your own with embed.encoder: {row.network.timm_name} and embed.weights"
        )


def as_json(row: EncoderRow) -> dict[str, Any]:
    """Return a line as JSON values."""
    network, sight, scale = row.network, row.sight, row.scale
    return {
        "name": row.name,
        "title": row.title,
        "hub": row.hub,
        "files": list(row.files),
        "license": row.license.name,
        "commercial_use": row.license.commercial,
        "gated": row.license.gated,
        "architecture": network.timm_name,
        "model_arguments": dict(network.arguments),
        "tokens": network.tokens,
        "prefix_tokens": network.prefix_tokens,
        "feature_dim": network.feature_dim,
        "parameters_millions": network.parameters,
        "input_px": sight.input_px,
        "resize_px": sight.resize_px,
        "interpolation": sight.interpolation,
        "pixel_mean": list(sight.pixel_mean),
        "pixel_std": list(sight.pixel_std),
        "tile_px": scale.tile_px,
        "tile_mpp": scale.mpp,
        "trained_mpp": list(scale.trained_mpp),
        "paper": row.paper,
        "unverified": list(row.unverified),
    }


def markdown_table() -> str:
    """Return the table of docs/encoders.md, one line an encoder."""
    head = (
        "| name | encoder | features | tokens | fed | pixels | tile | trained um/px | M params | license | "
        "gated | unverified |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(_markdown_line(row) for row in ENCODERS.values())


def _markdown_line(row: EncoderRow) -> str:
    cells = (
        f"`{row.name}`",
        f"[{row.title}]({row.page})",
        str(row.network.feature_dim),
        tokens_told(row),
        sight_told(row),
        f"{_spaced(row.sight.pixel_mean)} / {_spaced(row.sight.pixel_std)}",
        f"{row.scale.tile_px} px at {row.scale.mpp:g}",
        ", ".join(f"{mpp:g}" for mpp in row.scale.trained_mpp),
        f"{row.network.parameters:g}",
        row.license.name + ("" if row.license.commercial else " (no commercial use)"),
        "yes" if row.license.gated else "no",
        "; ".join(row.unverified) or "-",
    )
    return f"| {' | '.join(cells)} |\n"


def tokens_told(row: EncoderRow) -> str:
    """Tell in words what becomes the feature vector."""
    registers = row.network.prefix_tokens - 1
    skipped = f", {registers} register tokens skipped" if registers > 0 else ""
    words = {
        "class": "class token",
        "class+mean": "class token, then mean patch token",
        "attention": "attentional pooler over all tokens, before any projection",
        "average": "mean over the map",
    }
    return f"{words[row.network.tokens]}{skipped}"


def sight_told(row: EncoderRow) -> str:
    """Tell in words what is done to a tile.

    >>> from wsi_kd.features.encoder_rows_gated import GIGAPATH
    >>> sight_told(GIGAPATH)
    '256 px bicubic, central 224'
    """
    sight = row.sight
    crop = f", central {sight.input_px}" if sight.resize_px > sight.input_px else ""
    return f"{sight.resize_px} px {sight.interpolation}{crop}"


def _spaced(color: Color) -> str:
    return " ".join(str(value) for value in color)
