"""Slides of scanners whose stored tiles overlap: Trestle MedScan and Ventana BIF, small, with their truth.

Layouts as OpenSlide's documentation and readers tell them (https://openslide.org/formats/trestle/, and
.../ventana/). Tiles are 64 px. Trestle says by how much all tiles of a level overlap. Ventana scans areas,
numbers the tiles of each from its lower left corner, every second row backwards, and tells the overlap of
every two neighbors; its coarser levels are the stored tiles of level 0 beside each other, shrunk.
"""

from pathlib import Path
from typing import Final, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from jpeg_tiffs import encoded, halved
from planted_slides import pattern

TILE_PX: Final = 64
XML_TAG: Final = 700
TRESTLE_SIZE: Final = (1024, 688)
"""Width and height that both levels fill with whole tiles: 48 n + 16 = 2 (56 m + 8)."""
TRESTLE_OVERLAPS: Final = (16, 8)
VENTANA_OVERLAP: Final = 8


class Area(NamedTuple):
    """An area that a Ventana scanner chose, in level-0 pixels; whole tiles with their overlaps."""

    x: int
    y: int
    columns: int
    rows: int

    @property
    def width(self) -> int:
        """Its width in pixels."""
        return self.columns * (TILE_PX - VENTANA_OVERLAP) + VENTANA_OVERLAP

    @property
    def height(self) -> int:
        """Its height in pixels."""
        return self.rows * (TILE_PX - VENTANA_OVERLAP) + VENTANA_OVERLAP


AREAS: Final = (Area(40, 0, 9, 12), Area(570, 140, 7, 9))
"""Around both pieces of tissue of `synthetic.paint_slide`; nothing was scanned between them."""


def write_trestle(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` (688, 1024, 3) in two levels; the macro image lies beside the file as `<stem>.Full`."""
    told = ";".join(
        [
            "Background Color=F0E6DC",
            "White Balance=FFFFFF",
            "Objective Power=20",
            "JPEG Quality=95",
            f"Patient={patient}",
            "OverlapsXY= " + " ".join(f"{overlap} {overlap}" for overlap in TRESTLE_OVERLAPS),
        ]
    )
    with tifffile.TiffWriter(path) as writer:
        for level, image in enumerate((pixels, halved(pixels))):
            mosaic = _mosaic(image, overlap=TRESTLE_OVERLAPS[level])
            write_page(
                writer,
                mosaic,
                description=told,
                software="MedScan 1.0",
                resolution=(mpp * 2**level, mpp * 2**level),  # um a pixel, against TIFF's definition
                subfiletype=int(level > 0),
            )
    macro = imagecodecs.jpeg8_encode(pattern(320, 120))
    path.with_suffix(".Full").write_bytes(macro)
    return path


def write_ventana(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float = 0.5,
    patient: str = "",
    up: str = "UP",
    levels: int = 3,
) -> Path:
    """Write the `AREAS` of `pixels` as BIF, the macro image first; `up` names the upward joints."""
    mosaic = np.full((TILE_PX * 12, TILE_PX * 17, 3), 255, np.uint8)
    column = 0
    for area in AREAS:
        part = pixels[area.y : area.y + area.height, area.x : area.x + area.width]
        stored = _mosaic(part, overlap=VENTANA_OVERLAP)
        mosaic[: stored.shape[0], column * TILE_PX :][:, : stored.shape[1]] = stored
        column += area.columns + 1
    scan = (
        f'<iScan UnitNumber="{patient}" UserName="{patient}" Barcode1D="{patient}" BuildDate="01/02/1945" '
        f'SlideAnnotation="{patient}" Magnification="20" ScanRes="{mpp}" Z-layers="1"/>'
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            pattern(320, 120),
            photometric="rgb",
            description="Label_Image",
            metadata=None,
            software="ScanOutputManager 1.1",
            extratags=[_xml(scan)],
        )
        for level in range(levels):
            write_page(
                writer,
                mosaic,
                description=f"level={level} mag={20 / 2**level:g} quality=95",
                extratags=[_xml(_encode_info(up=up))] if level == 0 else [],
            )
            mosaic = halved(mosaic)
    return path


def _mosaic(pixels: np.ndarray, *, overlap: int) -> np.ndarray:
    """Cut overlapping tiles out of an image and put them beside each other."""
    step = TILE_PX - overlap
    rows, columns = ((length - overlap) // step for length in pixels.shape[:2])
    tiles = [
        [pixels[row * step :, column * step :][:TILE_PX, :TILE_PX] for column in range(columns)]
        for row in range(rows)
    ]
    return np.concatenate([np.concatenate(line, axis=1) for line in tiles])


def write_page(writer: tifffile.TiffWriter, mosaic: np.ndarray, **options) -> None:
    """Write one page in JPEG tiles of 64 px."""
    height, width = mosaic.shape[:2]
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    beyond = ((0, rows * TILE_PX - height), (0, columns * TILE_PX - width), (0, 0))
    whole = np.pad(mosaic, beyond, mode="edge")
    tiles = (
        encoded(
            np.ascontiguousarray(whole[row * TILE_PX :, column * TILE_PX :][:TILE_PX, :TILE_PX]),
            "ycbcr",
            quality=95,
        ).joined()
        for row in range(rows)
        for column in range(columns)
    )
    writer.write(
        tiles,
        **{
            "shape": mosaic.shape,
            "dtype": np.uint8,
            "tile": (TILE_PX, TILE_PX),
            "compression": "jpeg",
            "photometric": "ycbcr",
            "subsampling": (1, 1),
            "metadata": None,
            "software": False,
            **options,
        },
    )


def _xml(text: str) -> tuple[int, int, int, bytes, bool]:
    return XML_TAG, 7, len(text), text.encode(), True


def _encode_info(*, up: str) -> str:
    bottom = max(area.y + area.height for area in AREAS)
    images, origins, column = [], [], 0
    for number, area in enumerate(AREAS):
        below = bottom - area.y - area.height
        images.append(
            f'<ImageInfo AOIScanned="1" AOIIndex="{number}" Width="{TILE_PX}" Height="{TILE_PX}" '
            f'NumRows="{area.rows}" NumCols="{area.columns}" Pos-X="{area.x}" Pos-Y="{below}">'
            f"{''.join(_joints(area, up=up))}</ImageInfo>"
        )
        origins.append(f'<AOI{number} OriginX="{column * TILE_PX}" OriginY="0"/>')
        column += area.columns + 1
    stitched = f"<SlideStitchInfo>{''.join(images)}</SlideStitchInfo>"
    return f'<EncodeInfo Ver="2">{stitched}<AoiOrigin>{"".join(origins)}</AoiOrigin></EncodeInfo>'


def _joints(area: Area, *, up: str) -> list[str]:
    """Tell of every two neighbors by how much they overlap; rows count from below."""

    def number(column: int, row: int) -> int:
        return row * area.columns + (area.columns - 1 - column if row % 2 else column) + 1

    def joint(direction: str, first: int, second: int, *, overlap: tuple[int, int]) -> str:
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="98" Direction="{direction}" Tile1="{first}" '
            f'Tile2="{second}" OverlapX="{overlap[0]}" OverlapY="{overlap[1]}"/>'
        )

    found = []
    for row in range(area.rows):
        for column in range(area.columns):
            here = number(column, row)
            if column + 1 < area.columns:
                right = number(column + 1, row)
                found.append(joint("RIGHT", here, right, overlap=(VENTANA_OVERLAP, 0)))
            if row + 1 < area.rows:
                above = number(column, row + 1)
                found.append(joint(up, here, above, overlap=(0, VENTANA_OVERLAP)))
    return found
