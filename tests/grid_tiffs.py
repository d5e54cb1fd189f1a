"""Slides of Huron and ARGOS scanners: TIFF whose levels are plain grids of tiles, small, with their truth.

Tags as OpenSlide's documentation tells them (https://openslide.org/formats/huron/, .../argos/). ARGOS stores
the pyramids of all focal planes, and nothing where there is no tissue.
"""

from pathlib import Path
from typing import Final

import numpy as np
import tifffile
from jpeg_tiffs import halved
from overlapping_tiffs import TILE_PX, write_page
from planted_slides import pattern

ARGOS_TAG: Final = 65000
MAKE_TAG: Final = 271
UM_PER_CM: Final = 10_000
UNSTORED_PX: Final = 128


def write_huron(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` in two levels, a thumbnail between them, label and macro behind."""
    told = f"Scanner = TissueScope\r\nCase = {patient}\r\nBarcode = {patient}"
    tags = [(MAKE_TAG, 2, None, "Huron Digital Pathology", True)]
    with tifffile.TiffWriter(path) as writer:
        write_page(writer, pixels, description=told, extratags=tags, **_resolution(mpp))
        writer.write(pattern(160, 120), photometric="rgb", compression="jpeg", metadata=None)
        write_page(writer, halved(pixels), subfiletype=1)
        for kind in (1, 9):
            writer.write(pattern(320, 120), photometric="rgb", subfiletype=kind, metadata=None)
    return path


def write_argos(
    path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "", planes: int = 1
) -> Path:
    """Write `pixels` in two levels as the middle of `planes` focal planes, thumbnail and macro behind.

    Of its topmost `UNSTORED_PX` rows nothing is stored.
    """
    told = (
        f"<Argos.Scan.Metadata><Barcode>{patient}</Barcode><Operator>{patient}</Operator><MinZ>0</MinZ>"
        f"<MaxZ>{planes - 1}</MaxZ><ObjectiveMagnification>20</ObjectiveMagnification></Argos.Scan.Metadata>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for plane in range(planes):
            image = pixels if plane == (planes - 1) // 2 else np.full_like(pixels, 128)
            tags = [(ARGOS_TAG, 2, None, told, True)] if plane == 0 else []
            write_page(writer, image, extratags=tags, **_resolution(mpp))
            write_page(writer, halved(image), subfiletype=1)
        for size in ((160, 120), (320, 120)):
            writer.write(pattern(*size), photometric="rgb", metadata=None)
    _forget_top(path)
    return path


def _resolution(mpp: float) -> dict[str, object]:
    return {"resolution": (UM_PER_CM / mpp, UM_PER_CM / mpp), "resolutionunit": "CENTIMETER"}


def _forget_top(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        finest = max(page.imagewidth for page in tiff.pages)
        for page in tiff.pages:
            if page.is_tiled:
                rows = UNSTORED_PX * page.imagewidth // finest // TILE_PX
                forgotten = rows * -(-page.imagewidth // TILE_PX)
                for name in ("TileOffsets", "TileByteCounts"):
                    values = page.tags[name].value
                    page.tags[name].overwrite([0] * forgotten + list(values[forgotten:]))
