"""Damages of small TIFF slides, as scanners, transfers, bugs and attackers leave them: byte recipes."""

import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from jpeg_tiffs import rewrite_tile, tissue, write_tiff

SIDE, TILE = 512, 64
VAST = 2**31 - 1
SPOILED = 27
"""A stored tile in the middle."""

Recipe = Callable[[Path], Path]
"""Makes the hostile file in a folder and returns the path that is given to the command."""


def svs(folder: Path, *, name: str = "slide.svs") -> Path:
    """A small Aperio slide."""
    path = folder / name
    path.write_bytes(_svs_bytes())
    return path


@cache
def _svs_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_tiff(Path(folder) / "slide.svs", tissue(SIDE, SIDE), tile_px=TILE).read_bytes()


def noise(length: int) -> bytes:
    """The same random bytes each time."""
    return np.random.default_rng(7).integers(0, 256, length, dtype=np.uint8).tobytes()


def with_tags(tags: dict[str, list[int]], *, count: int | None = None, of: Recipe = svs) -> Recipe:
    """Overwrite the values of tags of the first page in place, perhaps their count too."""

    def make(folder: Path) -> Path:
        path = of(folder)
        for name, values in tags.items():
            set_tag(path, name, values, count=count)
        return path

    return make


def set_tag(path: Path, name: str, values: list[int], *, count: int | None = None) -> None:
    """Write numbers over a tag's own, in the type that it has."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[name]
        letter = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I"}[int(tag.dtype)]
        at, entry = tag.valueoffset, tag.offset
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(struct.pack(f"<{len(values)}{letter}", *values))
        if count is not None:
            handle.seek(entry + 4)
            handle.write(struct.pack("<I", count))


def with_kind(name: str, kind: int) -> Recipe:
    """Give a tag another type number."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        with tifffile.TiffFile(path) as tiff:
            entry = tiff.pages[0].tags[name].offset
        return patched(path, entry + 2, struct.pack("<H", kind))

    return make


def without_tag(name: str) -> Recipe:
    """Rename a tag, so that it is missing."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        with tifffile.TiffFile(path) as tiff:
            entry = tiff.pages[0].tags[name].offset
        return patched(path, entry, struct.pack("<H", 65000))

    return make


def patched(path: Path, at: int, content: bytes) -> Path:
    """Overwrite bytes."""
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(content)
    return path


def of_bytes(content: bytes, name: str = "slide.svs") -> Recipe:
    """A file of these bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut(share: float) -> Recipe:
    """A copy that broke off."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        os.truncate(path, int(share * path.stat().st_size))
        return path

    return make


def at_first_directory(change: Callable[[int, int], tuple[int, bytes]]) -> Recipe:
    """Patch by where the first directory lies and where its link to the next one is."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        content = path.read_bytes()
        first = struct.unpack_from("<I", content, 4)[0]
        entries = struct.unpack_from("<H", content, first)[0]
        at, new = change(first, first + 2 + 12 * entries)
        return patched(path, at, new)

    return make


def tile_rewritten(change: Callable[[bytes], bytes], *, index: int = SPOILED) -> Recipe:
    """Change the bytes of one stored tile, to an equal length."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        rewrite_tile(path, index, lambda stored: change(stored)[: len(stored)].ljust(len(stored), b"\0"))
        return path

    return make


def every_tile_rewritten(change: Callable[[bytes], bytes]) -> Recipe:
    """The same with all tiles."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        for index in range((SIDE // TILE) ** 2):
            rewrite_tile(path, index, lambda stored: change(stored)[: len(stored)].ljust(len(stored), b"\0"))
        return path

    return make


def jpeg_size(stored: bytes, height: int, width: int) -> bytes:
    """Let a JPEG declare another size."""
    at = stored.index(b"\xff\xc0")
    return stored[: at + 5] + struct.pack(">HH", height, width) + stored[at + 9 :]


def with_random_scan(stored: bytes) -> bytes:
    """Keep a JPEG's header alone."""
    scan = stored.index(b"\xff\xda") + 14
    return stored[:scan] + noise(len(stored) - scan)


def jpeg_components(stored: bytes, count: int) -> bytes:
    """Let a JPEG's frame declare another number of components."""
    at = stored.index(b"\xff\xc0")
    return stored[: at + 9] + bytes([count]) + stored[at + 10 :]


def described(text: bytes) -> Recipe:
    """An Aperio slide with this description."""

    def make(folder: Path) -> Path:
        path = svs(folder)
        with tifffile.TiffFile(path) as tiff:
            entry = tiff.pages[0].tags["ImageDescription"].offset
        content = path.read_bytes()
        path.write_bytes(content + text)
        patched(path, entry + 4, struct.pack("<II", len(text), len(content)))
        return path

    return make


def aperio(mpp: str) -> Recipe:
    """An Aperio slide that says so of its resolution."""
    return described(f"Aperio Image Library v12\r\n512x512 JPEG{mpp}".encode() + b"\0")


def plain(folder: Path, *, name: str = "slide.tif", **options: object) -> Path:
    """A plain tiled TIFF by tifffile."""
    written = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None, **options}
    written |= {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / name, tissue(SIDE, SIDE), **written)
    return folder / name


def plain_tile(codec: str, change: Callable[[bytes], bytes]) -> Recipe:
    """A plain TIFF of some compression with one damaged tile."""

    def make(folder: Path) -> Path:
        path = plain(folder, compression=codec)
        rewrite_tile(path, SPOILED, lambda stored: change(stored)[: len(stored)].ljust(len(stored), b"\0"))
        return path

    return make


def bomb(folder: Path, **options: object) -> Path:
    """A deflated tile that swells to 512 MiB: the directory points at it behind the end."""
    path = plain(folder, **{"compression": "deflate", **options})
    packer = zlib.compressobj(1)
    swollen = b"".join(packer.compress(bytes(2**24)) for _ in range(32)) + packer.flush()
    end = path.stat().st_size
    with path.open("ab") as handle:
        handle.write(swollen)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name, value in (("TileOffsets", end), ("TileByteCounts", len(swollen))):
            tag = tiff.pages[0].tags[name]
            tag.overwrite([*tag.value[:SPOILED], value, *tag.value[SPOILED + 1 :]])
    return path
