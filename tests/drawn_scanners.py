"""One slide of every scanner that OpenSlide reads and of which no file was at hand: drawn, with its truth."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from dicom_series import write_series
from grid_tiffs import UNSTORED_PX, write_argos, write_huron
from hamamatsu_files import shrunk, write_ndpi, write_vms, write_vmu
from overlapping_tiffs import AREAS, TRESTLE_SIZE, write_trestle, write_ventana
from sakura_file import write_sakura
from synthetic import paint_slide
from zeiss_file import write_zeiss

PYRAMID: Final = ((1024, 768), (512, 384), (256, 192))
HALVINGS: Final = tuple((1024 >> step, 768 >> step) for step in range(8))


class Drawn(NamedTuple):
    """What is written, and what is to be found."""

    file: str
    write: Callable[..., object]
    format: str
    levels: tuple[tuple[int, int], ...]
    compression: str
    associated: frozenset[str]
    """Images beside the slide."""
    is_lossless: bool = False
    objective: str = "20"
    bounds: tuple[int, int, int, int] | None = None
    """None: the whole slide."""
    source: str = "vendor"
    """Where its resolution comes from."""


def _first_of_series(path: Path, pixels: np.ndarray, *, syntax="jpeg", **options) -> None:
    """Write a series beside each other, its finest file as `path`."""
    finest = write_series(path.parent, pixels, syntax=syntax, series=_SERIES[syntax], **options)[0]
    finest.rename(path)


_SERIES: Final = {"jpeg": 1, "raw": 2}
_MACRO: Final = frozenset({"macro"})
DRAWN: Final = {
    "trestle": Drawn("t.tif", write_trestle, "openslide/trestle", (TRESTLE_SIZE, (512, 344)), "JPEG", _MACRO),
    "ventana": Drawn(
        "v.bif", write_ventana, "openslide/ventana", ((970, 680), (485, 340), (243, 170)), "JPEG", _MACRO
    ),
    "huron": Drawn(
        "i.tif",
        write_huron,
        "openslide/huron",
        PYRAMID[:2],
        "JPEG",
        frozenset({"label", "macro", "thumbnail"}),
        objective="",
    ),
    "argos": Drawn(
        "a.avs",
        write_argos,
        "openslide/argos",
        PYRAMID[:2],
        "JPEG",
        frozenset({"macro", "thumbnail"}),
        bounds=(0, UNSTORED_PX, 1024, 768 - UNSTORED_PX),
    ),
    "vms": Drawn("h.vms", write_vms, "openslide/hamamatsu", HALVINGS, "JPEG", _MACRO),
    "vmu": Drawn("u.vmu", write_vmu, "openslide/hamamatsu", PYRAMID[::2], "none", _MACRO, is_lossless=True),
    "ndpi": Drawn("n.ndpi", write_ndpi, "openslide/hamamatsu", HALVINGS[:6], "JPEG", _MACRO),
    "sakura": Drawn(
        "s.svslide",
        write_sakura,
        "openslide/sakura",
        PYRAMID,
        "JPEG",
        frozenset({"label", "macro", "thumbnail"}),
    ),
    "zeiss": Drawn(
        "z.czi",
        write_zeiss,
        "openslide/zeiss",
        PYRAMID,
        "unknown",
        frozenset({"thumbnail"}),
        is_lossless=True,
    ),
    "dicom": Drawn(
        "d.dcm", _first_of_series, "openslide/dicom", PYRAMID, "JPEG", frozenset({"label"}), source="dicom"
    ),
    "dicom raw": Drawn(
        "e.dcm",
        partial(_first_of_series, syntax="raw"),
        "openslide/dicom",
        PYRAMID,
        "none",
        frozenset({"label"}),
        is_lossless=True,
        source="dicom",
    ),
}


@cache
def painted() -> np.ndarray:
    """Tissue on glass (768, 1024, 3): `synthetic.PIECES`."""
    return paint_slide(seed=0, with_tumor=True)


def draw(kind: str, folder: Path, *, name: str = "", patient: str = "") -> Path:
    """Write one slide of a kind into a folder, under its own name or another without ending."""
    drawn = DRAWN[kind]
    path = folder / drawn.file
    if name:
        path = path.with_stem(name)
    pixels = painted()
    if kind == "trestle":
        pixels = pixels[: TRESTLE_SIZE[1]]
    drawn.write(path, pixels, patient=patient)
    return path


def truth(kind: str, level: int = 0) -> np.ndarray:
    """What a level is to show: the painted pixels, or white where nothing is stored."""
    drawn = DRAWN[kind]
    width, height = drawn.levels[0]
    pixels = painted()
    if kind == "ventana":
        seen = np.full_like(pixels, 255)
        for area in AREAS:
            there = np.s_[area.y : area.y + area.height, area.x : area.x + area.width]
            seen[there] = pixels[there]
        pixels = seen
    if kind == "argos":
        pixels = pixels.copy()
        pixels[:UNSTORED_PX] = 255
    factor = round(width / drawn.levels[level][0])
    whole = pixels[:height, :width]
    return shrunk(whole, factor) if factor > 1 else whole
