"""A large slide drawn in seconds: one square of stained tissue and its mirror images, laid out like tiles."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import shapely
import tifffile

from wsi_kd.core.files import publish
from wsi_kd.core.shapes import Pixels
from wsi_kd.demo.anatomy import draw_traits
from wsi_kd.demo.palette import draw_palette
from wsi_kd.demo.stains import develop, draw_stain
from wsi_kd.demo.tissue import paint_piece

MPP = 0.5
DOWNSAMPLE = 4
"""From one level to the next."""


def draw_large_slide(
    path: Path,
    *,
    edge_px: int = 16384,
    piece_px: int = 4096,
    tile_px: int = 256,
    jpeg_quality: int = 70,
    levels: int = 1,
) -> None:
    """Write an Aperio-like SVS, all tissue, chroma at half resolution as scanners store it.

    Args:
        path: the file.
        edge_px: width and height of the slide, a multiple of twice `piece_px`.
        piece_px: width and height of what is drawn, a multiple of `tile_px`; the rest are its mirror images.
        tile_px: edge of a stored tile.
        jpeg_quality: 1 to 100; at 70 a tile of 256 px takes about 10 kB.
        levels: of the pyramid, each a quarter as wide as the one before; tiles of those smaller than a piece
            are as small as the piece.
    """
    pixels = draw_piece(piece_px)
    size, properties = f"{edge_px}x{edge_px}", f"JPEG|AppMag = 20|MPP = {MPP}"
    with publish(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as writer:
        for level in range(levels):
            shrink = DOWNSAMPLE**level
            piece, tile = piece_px // shrink, min(tile_px, piece_px // shrink)
            stored = _stored(pixels, piece, tile_px=tile, jpeg_quality=jpeg_quality)
            writer.write(
                _laid_out(stored, edge_px // shrink // tile, piece // tile),
                shape=(edge_px // shrink, edge_px // shrink, 3),
                dtype=np.uint8,
                tile=(tile, tile),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=int(level > 0),
                description=f"Aperio Image Library v12.0.15 \r\n{size} [0,0 {size}] {properties}",
                software=False,
                metadata=None,
            )


def draw_piece(edge_px: int, *, seed: int = 7) -> Pixels:
    """Draw a square of tissue with a tumor in its middle."""
    rng = np.random.default_rng(seed)
    traits = draw_traits(rng)._replace(folds=0)
    middle = edge_px / 2
    stains = paint_piece(
        shapely.box(0, 0, edge_px, edge_px),
        shapely.MultiPolygon([shapely.Point(middle, middle).buffer(edge_px / 5)]),
        origin=(0, 0),
        shape=(edge_px, edge_px),
        traits=traits,
        palette=draw_palette(traits, rng),
        rng=rng,
    )
    return develop(stains.hematoxylin, stains.eosin, stain=draw_stain(rng, site=0), rng=rng)


def _stored(
    pixels: Pixels, piece_px: int, *, tile_px: int, jpeg_quality: int
) -> list[list[list[list[bytes]]]]:
    """Encode the tiles of the piece, shrunk to `piece_px`, and of its mirror images."""
    small = cv2.resize(pixels, (piece_px, piece_px), interpolation=cv2.INTER_AREA)
    mirrored = [[small, small[:, ::-1]], [small[::-1], small[::-1, ::-1]]]
    return [[_encoded(piece, tile_px, jpeg_quality) for piece in row] for row in mirrored]


def _encoded(pixels: Pixels, tile_px: int, jpeg_quality: int) -> list[list[bytes]]:
    edges = range(0, len(pixels), tile_px)
    return [
        [
            bytes(
                imagecodecs.jpeg8_encode(
                    np.ascontiguousarray(pixels[y : y + tile_px, x : x + tile_px]),
                    level=jpeg_quality,
                    colorspace="RGB",
                    outcolorspace="YCBCR",
                    subsampling="420",
                )
            )
            for x in edges
        ]
        for y in edges
    ]


def _laid_out(stored: list[list[list[list[bytes]]]], tiles: int, piece: int) -> Iterator[bytes]:
    """Yield the tiles of the slide row by row: pieces alternate with their mirror images both ways."""
    for row in range(tiles):
        for column in range(tiles):
            mirrored = stored[row // piece % 2][column // piece % 2]
            yield mirrored[row % piece][column % piece]
