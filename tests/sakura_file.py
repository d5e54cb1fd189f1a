"""A small Sakura slide: an SQLite database with a gray JPEG for each color of each tile.

Tables as OpenSlide's documentation tells them (https://openslide.org/formats/sakura/).
"""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import cv2
import imagecodecs
import numpy as np
from planted_slides import pattern

TILE_PX: Final = 128
UNIQUE_TABLE: Final = "SVUnique0001"
_TABLES: Final = f"""
CREATE TABLE DataManagerSQLiteConfigXPO (TableName TEXT);
CREATE TABLE "{UNIQUE_TABLE}" (id TEXT PRIMARY KEY, size INTEGER, data BLOB);
CREATE TABLE SVSlideDataXPO (OID INTEGER PRIMARY KEY, m_labelScan INTEGER, m_overviewScan INTEGER,
    SlideId TEXT, Date TEXT, Description TEXT, Creator TEXT, DiagnosisCode TEXT, HRScanCount INTEGER,
    Keywords TEXT);
CREATE TABLE SVHRScanDataXPO (OID INTEGER PRIMARY KEY, ParentSlide INTEGER, ScanId TEXT, Date TEXT,
    Description TEXT, Name TEXT, ResolutionMmPerPix REAL, NominalLensMagnification REAL, ThumbnailImage BLOB,
    FocussingMethod TEXT);
CREATE TABLE SVScannedImageDataXPO (OID INTEGER PRIMARY KEY, Id TEXT, Image BLOB);
"""


def write_sakura(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` in levels of 1, 2 and 4, with label, macro and thumbnail."""
    height, width = pixels.shape[:2]
    picture = imagecodecs.jpeg8_encode(pattern(320, 120))
    header = struct.pack("<7I", TILE_PX, width, height, 8, 1, 3, 1)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TABLES)
        database.execute("INSERT INTO DataManagerSQLiteConfigXPO VALUES (?)", (UNIQUE_TABLE,))
        words = {"++MagicBytes": "SVGigaPixelImage", "++VersionBytes": "1.0.0", "Header": header}
        _insert(database, words.items())
        for factor in (1, 2, 4):
            size = (width // factor, height // factor)
            _insert(database, _tiles(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), factor))
        database.execute(
            "INSERT INTO SVSlideDataXPO VALUES (1, 1, 2, ?, '01/02/1945', ?, ?, ?, 1, ?)", (patient,) * 5
        )
        database.execute(
            "INSERT INTO SVHRScanDataXPO VALUES (1, 1, ?, '01/02/1945', ?, ?, ?, 20, ?, '1')",
            (patient, patient, patient, mpp / 1000, picture),
        )
        for number in (1, 2):
            database.execute("INSERT INTO SVScannedImageDataXPO VALUES (?, ?, ?)", (number, patient, picture))
    return path


def replace_tile(path: Path, tile_id: str, data: bytes | None) -> None:
    """Put other bytes in a tile's place, or (None) take it away; `T;x|y;downsample;color;0` names it."""
    with closing(sqlite3.connect(path)) as database, database:
        if data is None:
            database.execute(f'DELETE FROM "{UNIQUE_TABLE}" WHERE id = ?', (tile_id,))
        else:
            database.execute(f'UPDATE "{UNIQUE_TABLE}" SET data = ? WHERE id = ?', (data, tile_id))


def _insert(database: sqlite3.Connection, named) -> None:
    rows = ((name, len(data), data) for name, data in named)
    database.executemany(f'INSERT INTO "{UNIQUE_TABLE}" VALUES (?, ?, ?)', rows)


def _tiles(pixels: np.ndarray, factor: int) -> Iterator[tuple[str, bytes]]:
    height, width = pixels.shape[:2]
    whole = np.pad(pixels, ((0, -height % TILE_PX), (0, -width % TILE_PX), (0, 0)), mode="edge")
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            tile = whole[top : top + TILE_PX, left : left + TILE_PX]
            for color in range(3):
                gray = np.ascontiguousarray(tile[..., color])
                data = imagecodecs.jpeg8_encode(gray, level=95)
                yield f"T;{left * factor}|{top * factor};{factor};{color};0", data
