"""Thumbnails of the quality page: a JPEG and its outlines a slide, kept while they fit, made in threads."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, RunFailed, SlideProblem
from wsi_kd.core.files import file_hash, publish, publish_text
from wsi_kd.core.progress import progress
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.report.qc_outlines import Outline, draw_outlines
from wsi_kd.report.qc_record import QcThumbnail
from wsi_kd.settings.all import Settings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.pyramid import Thumbnail, read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.status import inputs_hash, unnamed
from wsi_kd.tissue.geojson import areas_of, read_geojson
from wsi_kd.tissue.polygons import read_tissue

FOLDER = "thumbnails"
REPLACED = "the file is not the one that the mask was made of; make the masks anew with: wsi-kd mask"
_MARK = re.compile(r'viewBox="0 0 (\d+) (\d+)" data-mark="([0-9a-f]{128})"')
_HEAD_LETTERS = 400


class Wanted(NamedTuple):
    """A slide whose thumbnail the page shows."""

    row: SlideRow
    mask: Path
    fingerprint: str
    """Of the file that the mask was made of."""


class Made(NamedTuple):
    """The thumbnail, or why there is none."""

    thumbnail: QcThumbnail | None
    note: str


def make_thumbnails(
    wanted: Sequence[Wanted],
    *,
    folder: Path,
    settings: Settings,
    workers: int,
) -> list[Made]:
    """Make or keep the thumbnails of slides, in order; one that cannot be had gets a note.

    Only pixels of the slide itself are read, never its label or macro image. A thread holds one slide's
    thumbnail at a time.

    Args:
        wanted: the slides.
        folder: folder of the page; files lie in its `thumbnails/`.
        settings: sections `slides` and `qc` are used.
        workers: threads.

    Raises:
        BadInput: a mask that is damaged or was edited in place.
        RunFailed: a file could not be written.
    """
    with ThreadPoolExecutor(max(1, workers)) as threads:
        made = []
        making = threads.map(partial(_made, folder=folder, settings=settings), wanted)
        with progress("qc", total=len(wanted), unit="slides") as advance:
            for item, one in zip(wanted, making, strict=True):
                made.append(one)
                advance(slide_id=item.row.slide_id, note=one.note)
        return made


def _made(item: Wanted, *, folder: Path, settings: Settings) -> Made:
    slide_id = item.row.slide_id
    found = QcThumbnail(f"{FOLDER}/{slide_id}.jpg", f"{FOLDER}/{slide_id}.svg", 0, 0)
    parts = {
        "slides": settings.slides.model_dump(mode="json"),
        "qc": settings.qc.model_dump(mode="json"),
        "fingerprint": item.fingerprint,
        "mask": file_hash(item.mask),
    }
    expected = inputs_hash("qc", parts)
    size_px = _kept_size(folder, found, expected)
    if size_px is None:
        try:
            size_px = _draw(item, folder=folder, files=found, expected=expected, settings=settings)
        except SlideProblem as problem:
            return Made(None, unnamed(problem.reason, item.row))
        except (BadInput, RunFailed, MemoryError):
            raise
        except Exception as error:  # a damaged slide may make its reader raise anything
            return Made(None, f"reading failed ({type(error).__name__})")
    width, height = size_px
    return Made(found._replace(width_px=width, height_px=height), "")


def _kept_size(folder: Path, files: QcThumbnail, expected: str) -> tuple[int, int] | None:
    """Return the size of a former run's thumbnail if both of its files are whole and still fit."""
    jpeg, outlines = folder / files.jpeg, folder / files.outlines
    try:
        with outlines.open(encoding="utf-8") as handle:
            found = _MARK.search(handle.read(_HEAD_LETTERS))
        if found is None or found[3] != expected + file_hash(jpeg):
            return None
    except (OSError, ValueError):
        return None
    return int(found[1]), int(found[2])


def _draw(
    item: Wanted, *, folder: Path, files: QcThumbnail, expected: str, settings: Settings
) -> tuple[int, int]:
    """Write both files, the outlines last: where they lie, the thumbnail is whole."""
    tissue = read_tissue(item.mask)  # one that was damaged or edited in place did not make the tiles
    if tissue.header["status"] == SlideStatus.READER_CRASHED:
        raise SlideProblem(SlideStatus.READER_CRASHED, tissue.header["reason"])
    thumbnail = _read(item, settings)
    height, width = thumbnail.pixels.shape[:2]
    jpeg = folder / files.jpeg
    with publish(jpeg) as temporary:
        temporary.write_bytes(_encoded(thumbnail.pixels, quality=settings.qc.jpeg_quality))
    areas = areas_of(read_geojson(item.mask), where=str(item.mask))
    drawing = draw_outlines(
        [Outline(named.name, named.area) for named in areas],
        size_px=(width, height),
        level0_px_per_px=thumbnail.level0_px_per_px,
        mark=expected + file_hash(jpeg),
    )
    publish_text(folder / files.outlines, drawing)
    return width, height


def _read(item: Wanted, settings: Settings) -> Thumbnail:
    if slide_fingerprint(item.row.path) != item.fingerprint:
        raise SlideProblem(SlideStatus.UNREADABLE, REPLACED)
    with open_slide(item.row.path, background=settings.slides.background) as reader:
        longer_px = max(reader.bounds.width_level0_px, reader.bounds.height_level0_px)
        return read_thumbnail(
            reader,
            slide_mpp=1.0,  # the thumbnail's size alone counts, so slides without a resolution have one too
            thumbnail_mpp=longer_px / settings.qc.thumbnail_px,
            color=settings.slides.color,
        )


def _encoded(pixels: Pixels, *, quality: int) -> bytes:
    done, content = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise RuntimeError("a thumbnail could not be encoded")
    return bytes(content.data)
