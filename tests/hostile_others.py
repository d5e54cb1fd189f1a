"""Damages of OME-XML, PNG, JPEG, MIRAX and Zarr, and of names and paths: byte recipes."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from hostile_tiffs import SIDE, TILE, Recipe, jpeg_size, of_bytes, svs
from jpeg_tiffs import tissue
from mirax_file import write_mirax


def ome(xml: str) -> Recipe:
    """An OME-TIFF with this XML."""

    def make(folder: Path) -> Path:
        path = folder / "slide.ome.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                tissue(SIDE, SIDE),
                tile=(TILE, TILE),
                photometric="rgb",
                compression="deflate",
                description=xml.encode(),
                metadata=None,
            )
        return path

    return make


OME = (
    '<?xml version="1.0"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"{image}><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{x}" '
    'SizeY="512" SizeZ="{z}" SizeC="3" SizeT="1" PhysicalSizeX="{mpp}" PhysicalSizeY="{mpp}">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="{ifd}" PlaneCount="{planes}"/>'
    "</Pixels></Image></OME>"
)


def ome_of(**changes: object) -> Recipe:
    """An OME-TIFF whose XML differs in these members."""
    given = {"before": "", "image": "", "x": SIDE, "z": 1, "mpp": 0.5, "ifd": 0, "planes": 1, **changes}
    return ome(OME.format(**given))


LAUGHS = (
    "<!DOCTYPE lolz [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>"
)


def link(target: str) -> Recipe:
    """A symbolic link."""

    def make(folder: Path) -> Path:
        (folder / "slide.svs").symlink_to(target)
        return folder / "slide.svs"

    return make


def fifo(folder: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(folder / "slide.svs")
    return folder / "slide.svs"


def below_file(folder: Path) -> Path:
    """A path that goes through a file."""
    return svs(folder) / "slide.svs"


def named(name: str) -> Recipe:
    """A whole slide with this file name."""
    return lambda folder: svs(folder, name=name)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, name: str = "slide.png") -> Recipe:
    """A PNG of this declared size with these chunks behind its header."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return of_bytes(b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b""), name)


PNG_PIXELS = png_chunk(b"IDAT", zlib.compress(bytes((3 * 64 + 1) * 64)))


def jpeg_declaring(height: int, width: int) -> Recipe:
    """A JPEG whose header declares this size."""
    stored = bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(tissue(128, 128))))
    return of_bytes(jpeg_size(stored, height, width), "slide.jpg")


def mirax(change: Callable[[Path], object]) -> Recipe:
    """A MIRAX slide whose folder is changed."""

    def make(folder: Path) -> Path:
        path = write_mirax(folder / "slide.mrxs", tissue(256, 256))
        change(path.with_suffix(""))
        return path

    return make


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Replace text in a file of a folder."""

    def change(folder: Path) -> None:
        content = (folder / name).read_text(encoding="utf-8")
        assert old in content
        (folder / name).write_text(content.replace(old, new), encoding="utf-8")

    return change


def zarr(array: str) -> Recipe:
    """A folder that says it is an OME-Zarr, with this description of its array."""

    def make(folder: Path) -> Path:
        top = folder / "slide.zarr"
        (top / "0").mkdir(parents=True)
        (top / ".zgroup").write_text('{"zarr_format": 2}')
        axes = '[{"name": "c"}, {"name": "y"}, {"name": "x"}]'
        (top / ".zattrs").write_text(
            f'{{"multiscales": [{{"version": "0.4", "axes": {axes}, "datasets": [{{"path": "0", '
            '"coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}]}]}]}'
        )
        (top / "0/.zarray").write_text(array)
        return top

    return make


def zarray(shape: list[int], chunks: list[int], dtype: str = "|u1") -> str:
    """The description of a Zarr array."""
    return (
        f'{{"zarr_format": 2, "shape": {shape}, "chunks": {chunks}, "dtype": "{dtype}", "compressor": null, '
        '"fill_value": 0, "order": "C", "filters": null, "dimension_separator": "/"}'
    )
