"""Proof before trust: a few stored tiles, decoded by themselves, against the slide's own reader."""

import math
from enum import Enum

import cv2
import numpy as np
from jaxtyping import Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.level_position import interpolated, interpolates, level_position
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.stored_tiles import StoredGrid, StoredTiles

TRIED = 6
"""Tiles looked at, at most: the fullest, then the first and the last of those that will be read."""
ENOUGH = 3
"""Tiles that must be equal; fewer where the slide has fewer that can be read."""
BETWEEN_PIXELS = 3
"""Gray levels of 255 by which pixels may differ where OpenSlide interpolates between pixels of a level."""


class _Verdict(Enum):
    EQUAL = 0
    DIFFERENT = 1
    REFUSED = 2
    """Only the reader decodes it: damage that it overlooks, or a stream that is always unusual."""
    UNREADABLE = 3


def why_not_alike(
    reader: SlideReader, level: int, stored: StoredTiles, *, uses: Int64[np.ndarray, "stored"]
) -> str:
    """Say why stored tiles cannot stand for the reader's pixels; nothing where a few prove equal.

    Args:
        reader: the slide.
        level: the level whose tiles these are.
        stored: the tiles as they are decoded by themselves.
        uses: how often each will be needed; only tiles that are needed and stored are compared.
    """
    verdicts: list[_Verdict] = []
    for index in _chosen(stored.grid, uses):
        verdicts.append(_verdict(reader, level, stored, index=index))
        if verdicts[-1] is _Verdict.DIFFERENT:
            return "its stored tiles, decoded by themselves, differ from what the reader gives"
        if verdicts.count(_Verdict.EQUAL) == ENOUGH:
            return ""
    if _Verdict.EQUAL in verdicts:
        return ""
    return (
        "none of its stored tiles that were tried can be decoded by itself"
        if verdicts
        else "nothing is stored"
    )


def _chosen(grid: StoredGrid, uses: Int64[np.ndarray, "stored"]) -> list[int]:
    """Choose tiles with the most bytes (glass proves no colors) and those at both ends."""
    there = np.flatnonzero((uses > 0) & (grid.sizes > 0))
    fullest = there[np.argsort(grid.sizes[there], kind="stable")[::-1]].tolist()
    ends = there[[0, -1]].tolist() if len(there) else []
    return list(dict.fromkeys([*fullest[:2], *ends, *fullest[2:]]))[:TRIED]


def _verdict(reader: SlideReader, level: int, stored: StoredTiles, *, index: int) -> _Verdict:
    grid = stored.grid
    row, column = divmod(index, grid.columns)
    left, top = column * grid.tile_width_px, row * grid.tile_height_px
    downsample = reader.level_downsamples[level]
    x, y = math.ceil(left * downsample), math.ceil(top * downsample)
    at = level_position(x, y, downsample, between=interpolates(reader.format))
    width = min(grid.tile_width_px, grid.width_px - left) - (at.x_part > 0)
    height = min(grid.tile_height_px, grid.height_px - top) - (at.y_part > 0)
    try:
        expected = reader.read_region(
            x_level0_px=x, y_level0_px=y, level=level, width_px=width, height_px=height
        )
    except Exception:  # a damaged slide may make its reader raise anything; the next tile tells more
        return _Verdict.UNREADABLE
    try:
        decoded = stored.decode(index)
    except SlideProblem:
        return _Verdict.REFUSED
    found = interpolated(decoded, at, width_px=width, height_px=height)[:height, :width]
    most = BETWEEN_PIXELS if at.x_part or at.y_part else 0
    alike = (at.x, at.y) == (left, top) and not (cv2.absdiff(found, expected) > most).any()
    return _Verdict.EQUAL if alike else _Verdict.DIFFERENT
