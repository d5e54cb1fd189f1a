"""Which reader a slide needs, told by its content; a name's ending is never trusted."""

import stat
from collections.abc import Callable
from pathlib import Path

import openslide

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.declared import refuse_vast_tiles
from wsi_kd.slides.dicom_header import MAGIC, PREAMBLE_BYTES
from wsi_kd.slides.image_reader import open_image
from wsi_kd.slides.openslide_reader import OpenSlideReader
from wsi_kd.slides.overlapping_tiles import refuse_overlapping_tiles
from wsi_kd.slides.protocol import Background, SlideReader, unreadable
from wsi_kd.slides.sakura_database import refuse_faulty_sakura
from wsi_kd.slides.slide_parts import MIRAX_INDEX, refuse_missing_parts
from wsi_kd.slides.tiff_reader import open_tiff, tells_more_than_openslide
from wsi_kd.slides.zarr_reader import is_zarr, open_zarr

_HEAD_BYTES = PREAMBLE_BYTES + len(MAGIC)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Classic and BigTIFF, of either byte order."""
_PLAIN_TIFF, _SAKURA = "generic-tiff", "sakura"
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_KNOWN_ELSEWHERE = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Imaris?); convert it: bfconvert in.ims out.ome.tif",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000; convert it: vips tiffsave in.jp2 out.tif --tile --pyramid",
    b"SIMPLE  =": "a FITS image; convert it: bfconvert in.fits out.ome.tif",
    b"SQLite format 3\0": "a database that OpenSlide does not know as a Sakura slide; copy it again",
    b"%PDF": "a PDF document, no image",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}
"""First bytes of what is no slide here -> what it is and what helps."""
_PLACED_APART = ("leica", "philips", "trestle", "ventana")
"""Vendors whose pages are no levels as they stand: tiles overlap, areas lie apart, edges are padded."""


def open_by_content(path: Path, *, background: Background) -> SlideReader:
    """Open a slide with the first reader that knows its content.

    OpenSlide comes first. A TIFF that it does not know, knows and cannot open, or takes for a plain one
    although it is an OME-TIFF, goes to tifffile, PNG and JPEG to Pillow, a Zarr folder to zarr-python.
    What OpenSlide knows and cannot open, and would lie elsewhere page by page, is refused with its reason.

    Raises:
        SlideProblem: unreadable, for a file that is absent, empty, of a foreign format or damaged.
    """
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        return _open_folder(path, background)
    if not stat.S_ISREG(mode):
        raise unreadable("no regular file; give the slide's own file")
    head = _head(path)
    if not head:
        raise unreadable("the file is empty (0 bytes); copy it again")
    refuse_missing_parts(path)
    if head.startswith(_TIFF):
        refuse_vast_tiles(path)
    vendor = openslide.OpenSlide.detect_format(path)
    if head.startswith(_TIFF) and vendor in {None, _PLAIN_TIFF}:
        refuse_overlapping_tiles(path)
    if vendor is None:
        return _reader_for(head)(path, background=background)
    if vendor == _PLAIN_TIFF and tells_more_than_openslide(path):
        return open_tiff(path, background=background)
    if vendor == _SAKURA:
        refuse_faulty_sakura(path)
    try:
        return OpenSlideReader(path, background=background)
    except SlideProblem as problem:
        if vendor in _PLACED_APART or not head.startswith(_TIFF):
            raise
        return _second_try(path, background, first=problem)


def _second_try(path: Path, background: Background, *, first: SlideProblem) -> SlideReader:
    """Open by tifffile what OpenSlide knows and cannot open; if both fail, OpenSlide's reason is told."""
    try:
        return open_tiff(path, background=background)
    except SlideProblem:
        raise first from None


def _reader_for(head: bytes) -> Callable[..., SlideReader]:
    if head.startswith(_TIFF):
        return open_tiff
    if head.startswith(_IMAGES):
        return open_image
    for start, told in _KNOWN_ELSEWHERE.items():
        if head.startswith(start):
            raise unreadable(told)
    if head[PREAMBLE_BYTES:] == MAGIC:
        raise unreadable(
            "DICOM, but no whole-slide image that OpenSlide reads (VL Whole Slide Microscopy, uncompressed, "
            "JPEG or JPEG 2000); export it so"
        )
    raise unreadable(
        "no format that is read here (OpenSlide's, TIFF, PNG, JPEG, OME-Zarr); "
        "convert it to a tiled pyramidal TIFF"
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise unreadable("no such file; correct the path in the manifest") from None
    except OSError as error:  # a folder that may not be entered, links in a circle
        raise unreadable(
            f"cannot be reached ({error.strerror}); check the path and the rights of its folders"
        ) from None


def _open_folder(path: Path, background: Background) -> SlideReader:
    if is_zarr(path):
        return open_zarr(path, background=background)
    if any(file.suffix.lower() == ".dcm" for file in _listed(path)):
        raise unreadable("a folder of DICOM files; give one .dcm file of the series, the others are found")
    if (path / MIRAX_INDEX).is_file():
        raise unreadable("the data of a MIRAX slide; give the .mrxs file beside this folder")
    raise unreadable("a folder that is no OME-Zarr; give the slide's file")


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise unreadable(
            f"a folder that cannot be listed ({error.strerror}); give the slide's file"
        ) from None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error})") from None
