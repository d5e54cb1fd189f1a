"""A small MIRAX slide: a preview that is a JPEG, and beside it a folder with index and data files.

Layout as OpenSlide's documentation describes it (https://openslide.org/formats/mirax/): the index names the
place of every image of a level; here one level, one image a tile, no overlap.
"""

import struct
from pathlib import Path

import imagecodecs
import numpy as np

VERSION = b"01.02"
SLIDE_ID = "0123456789abcdef"
TILE_PX = 64


def write_mirax(path: Path, pixels: np.ndarray, *, mpp: float = 0.5) -> Path:
    """Write `pixels` (height, width, 3; whole tiles of 64 px) as `path` and the folder of its name."""
    rows, columns = pixels.shape[0] // TILE_PX, pixels.shape[1] // TILE_PX
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[::8, ::8])))
    data, places = bytearray(VERSION), []
    for row in range(rows):
        for column in range(columns):
            part = (
                slice(row * TILE_PX, (row + 1) * TILE_PX),
                slice(column * TILE_PX, (column + 1) * TILE_PX),
            )
            image = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[part]), level=95)
            places.append((row * columns + column, len(data), len(image), 0))
            data += image
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(places))
    (folder / "Slidedat.ini").write_text(_slidedat(rows, columns, mpp=mpp), encoding="utf-8")
    return path


def _index(places: list[tuple[int, int, int, int]]) -> bytes:
    start = len(VERSION) + len(SLIDE_ID)
    table = start + 8  # after the pointers to the tables of levels and of other data
    record, page = table + 4, table + 12
    content = VERSION + SLIDE_ID.encode()
    content += struct.pack("<ii", table, 0)
    content += struct.pack("<i", record)
    content += struct.pack("<ii", 0, page)
    content += struct.pack("<ii", len(places), 0)
    return content + b"".join(struct.pack("<4i", *place) for place in places)


def _slidedat(rows: int, columns: int, *, mpp: float) -> str:
    return f"""[GENERAL]
SLIDE_VERSION = {VERSION.decode()}
SLIDE_ID = {SLIDE_ID}
IMAGENUMBER_X = {columns}
IMAGENUMBER_Y = {rows}
OBJECTIVE_MAGNIFICATION = 20
CameraImageDivisionsPerSide = 1

[HIERARCHICAL]
HIER_COUNT = 1
NONHIER_COUNT = 0
INDEXFILE = Index.dat
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 1
HIER_0_VAL_0 = ZoomLevel_0
HIER_0_VAL_0_SECTION = LAYER_0_LEVEL_0_SECTION

[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat

[LAYER_0_LEVEL_0_SECTION]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = {mpp}
MICROMETER_PER_PIXEL_Y = {mpp}
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {TILE_PX}
DIGITIZER_HEIGHT = {TILE_PX}
IMAGE_CONCAT_FACTOR = 0
IMAGE_FORMAT = JPEG
"""
