"""Source `tiles`: pixels of a run with encoder `pixels`, and what a large encoder says of the same tiles.

Both are kept in memory: the pixels as bytes, the features as they are stored or in float16. What the large
side says is asked once a tile; it is frozen, so that it would say the same in every epoch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import FeatureArray, TileBatch
from wsi_kd.features.encoder_row import OWN_INTERPOLATION
from wsi_kd.features.pixels import PIXELS
from wsi_kd.features.preparation import Preparation, prepare_tiles
from wsi_kd.features.store import FeatureFile, read_features

COLORS = 3
ENCODED_AT_ONCE = 64

Describe: TypeAlias = Callable[["SlideTiles"], FeatureArray]
"""From a slide's tiles to the large encoder's features."""
Judge: TypeAlias = Callable[[FeatureArray], Float32[np.ndarray, "tiles classes"]]
"""From all features of a slide to logits of its tiles."""


class SlideTiles(NamedTuple):
    """All tiles of one slide."""

    file: FeatureFile
    """Of encoder `pixels`."""
    tiles: TileBatch


class TileSet(NamedTuple):
    """Tiles of several slides, and what the large side says of them."""

    pixels: UInt8[Tensor, "tiles edge edge 3"]
    features: Tensor
    """(tiles, features), float16 or float32."""
    logits: Tensor | None
    """(tiles, classes) float32; None: nobody was asked."""


def read_tile_set(
    pixels_dir: Path,
    slide_ids: Sequence[str],
    *,
    describe: Describe,
    judge: Judge | None,
    input_px: int | None,
    tiles_per_slide: int,
    seed: int,
) -> TileSet:
    """Read slides one by one, so that the peak of memory is the drawn tiles' size and a slide's.

    Args:
        pixels_dir: holds `<slide_id>.h5` of encoder `pixels`.
        slide_ids: those to read; failed ones are left out.
        describe: gives the large encoder's features.
        judge: gives logits of a whole slide's tiles, which may depend on each other; None: no logits.
        input_px: edge that tiles are kept at; None: as they are stored.
        tiles_per_slide: of slides with more, this many are drawn.
        seed: of that draw.

    Raises:
        BadInput: files that are absent, damaged, of another encoder or edge than the first; no tiles.
    """
    pixels: list[TileBatch] = []
    features: list[FeatureArray] = []
    logits: list[Float32[np.ndarray, "tiles classes"]] = []
    edge = None
    for number, slide_id in enumerate(slide_ids):
        slide = read_pixels(pixels_dir / f"{slide_id}.h5")
        if slide is None:
            continue
        edge = slide.tiles.shape[1] if edge is None else edge
        if slide.tiles.shape[1] != edge:
            raise BadInput(
                f"{pixels_dir / slide_id}.h5: tiles of {slide.tiles.shape[1]} px, those before have {edge}; "
                "make all with one run of wsi-kd embed"
            )
        described = describe(slide)
        chosen = _draw(len(slide.tiles), tiles_per_slide, seed=[seed, number])
        pixels.append(_resized(slide.tiles[chosen], input_px or edge))
        features.append(described[chosen])
        if judge is not None:
            logits.append(judge(described)[chosen])
    if not pixels:
        raise BadInput(
            f"{pixels_dir}: no slide with tiles among {len(slide_ids)}; run the workflow's embed first"
        )
    return TileSet(
        torch.from_numpy(np.concatenate(pixels)),
        torch.from_numpy(np.concatenate(features)),
        torch.from_numpy(np.concatenate(logits)) if logits else None,
    )


def read_pixels(path: Path) -> SlideTiles | None:
    """Read a slide's tiles; None where the slide failed or has none.

    Raises:
        BadInput: absent or damaged, or features of another encoder.
    """
    file = read_features(path)
    if file.header["status"] != SlideStatus.OK or not len(file.features):
        return None
    if file.header["encoder"] != PIXELS:
        raise BadInput(
            f"{path}: features of encoder '{file.header['encoder']}', expected the tiles' pixels; "
            f"embed them with embed.encoder: {PIXELS}"
        )
    edge = round((file.features.shape[1] / COLORS) ** 0.5)
    return SlideTiles(file, file.features.reshape(-1, edge, edge, COLORS))


def stored_features(features_dir: Path, expected: FeatureFile | None = None) -> Describe:
    """Return a reader of the large encoder's features, made of the very same tiles by another run.

    All files must be of one encoder: `expected`'s, or the first one's.
    """
    first: list[FeatureFile] = [] if expected is None else [expected]

    def describe(slide: SlideTiles) -> FeatureArray:
        path = features_dir / f"{slide.file.slide_id}.h5"
        file = read_features(path)
        first.append(file)
        if not np.array_equal(file.coords, slide.file.coords):
            raise BadInput(
                f"{path}: other tiles than those of the pixels; give both runs the same section tile"
            )
        if file.features.dtype == np.uint8:
            raise BadInput(
                f"{path}: pixels, expected the features of a large encoder; correct data.features_dir"
            )
        if file.header["weights_hash"] != first[0].header["weights_hash"]:
            raise BadInput(
                f"{path}: weights_hash {file.header['weights_hash']} instead of "
                f"{first[0].header['weights_hash']}; make all with one run of wsi-kd embed"
            )
        return file.features

    return describe


def computed_features(encode: Callable[[TileBatch], FeatureArray]) -> Describe:
    """Return what asks an encoder for features, kept in float16 as feature files keep them."""

    def describe(slide: SlideTiles) -> FeatureArray:
        starts = range(0, len(slide.tiles), ENCODED_AT_ONCE)
        encoded = [encode(slide.tiles[start : start + ENCODED_AT_ONCE]) for start in starts]
        return np.concatenate(encoded).astype(np.float16)

    return describe


def _resized(tiles: TileBatch, edge_px: int) -> TileBatch:
    """Resize as `NetworkEncoder` does when the small encoder is used."""
    if tiles.shape[1] == edge_px:
        return tiles
    return prepare_tiles(tiles, Preparation(edge_px, edge_px, OWN_INTERPOLATION))


def _draw(tiles: int, most: int, *, seed: list[int]) -> Int64[np.ndarray, "chosen"]:
    return np.sort(np.random.default_rng(seed).permutation(tiles)[:most])
