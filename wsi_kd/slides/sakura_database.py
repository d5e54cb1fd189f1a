"""What a Sakura slide's database is asked before OpenSlide reads its tiles."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.samples import RGBA
from wsi_kd.slides.tiff_pages import MAX_SEGMENT_BYTES

COLORS: Final = ("red", "green", "blue")
_TABLE: Final = "SELECT TableName FROM DataManagerSQLiteConfigXPO"
_COUNTED: Final = ", ".join(f"total(id GLOB 'T;*|*;*;{color};*')" for color in range(len(COLORS)))
"""A tile's image of one color is called `T;x|y;downsample;color;focal plane`, its hash the same with `#`."""


class _Stored(NamedTuple):
    """Images stored of each color, and the edge of a tile that the header declares."""

    images: Sequence[int]
    tile_px: int


def refuse_faulty_sakura(path: Path) -> None:
    """Refuse a Sakura slide that stores more images of one color than of another, or declares vast tiles.

    A tile without one of its colors would be shown by OpenSlide as if it had never been scanned. Every stored
    name is looked at once, as OpenSlide does when it opens the slide.

    Raises:
        SlideProblem: unreadable.
    """
    stored = _stored(path)
    if stored is None:
        return
    if len(set(stored.images)) > 1:
        told = ", ".join(f"{count} {color}" for count, color in zip(stored.images, COLORS, strict=True))
        raise unreadable(f"tiles lack a color ({told} images are stored); copy or export it again")
    if stored.tile_px**2 * RGBA > MAX_SEGMENT_BYTES:
        raise unreadable(f"its header declares tiles of {stored.tile_px} px; copy or export it again")


def _stored(path: Path) -> _Stored | None:
    """Ask the database; nothing where it does not answer: damage is OpenSlide's to tell."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            (table,) = database.execute(_TABLE).fetchone()
            quoted = '"{}"'.format(str(table).replace('"', '""'))
            query = f"SELECT {_COUNTED} FROM {quoted} WHERE id NOT GLOB '*#'"
            images = [int(count) for count in database.execute(query).fetchone()]
            (header,) = database.execute(f"SELECT data FROM {quoted} WHERE id = 'Header'").fetchone()
            return _Stored(images, int.from_bytes(bytes(header)[:4], "little"))
    except (sqlite3.Error, TypeError, ValueError):
        return None
