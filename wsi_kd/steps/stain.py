"""Step stain: tiles of the whole cohort -> one fit of its stains, in a JSON file that `embed` reads.

It is part of a run where `stain.fit` is cohort; a fit of each slide needs no step of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import publish_json
from wsi_kd.core.messages import warn
from wsi_kd.core.places import without_paths
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.stain.fits import CannotFit, PixelRows, as_numbers
from wsi_kd.features.stain.normalizer import fit_stains
from wsi_kd.features.stain.sampling import PIXELS_PER_TILE
from wsi_kd.features.store import read_tiles
from wsi_kd.settings.all import Settings
from wsi_kd.steps.stain_numbers import KIND, cohort_numbers, slide_pixels
from wsi_kd.steps.status import unnamed

COHORT_PIXELS = 4_000_000
"""Pixels of all slides together at most: large cohorts give fewer of each tile."""


class _Cohort(NamedTuple):
    """Pixels of the slides that gave any, and why the others gave none."""

    pixels: dict[str, PixelRows]
    left_out: dict[str, str]


def run_stain(
    rows: Sequence[SlideRow], *, tiles_dir: Path, stain_path: Path, settings: Settings
) -> dict[str, Any]:
    """Fit the stains of all slides together and write the numbers to `stain_path`; return what was written.

    Every slide that was tiled gives as many pixels; those that cannot be read are named in `left_out`. A
    cohort without two stains is written as such, and its tiles stay as they are: the run goes on.

    Args:
        rows: all slides of the manifest.
        tiles_dir: folder of the tile files.
        stain_path: where to write.
        settings: sections `slides`, `tile` and `stain` are used.

    Raises:
        BadInput: a method none or a fit of each slide, which have no cohort's fit; a target that cannot be
            used; a tile file that is absent or damaged.
        RunFailed: the file could not be written.
    """
    stain = settings.stain
    if stain.method == "none" or stain.fit != "cohort":
        raise BadInput(
            f"stain.method {stain.method} with stain.fit {stain.fit} needs no fit of the cohort; set "
            "stain.fit: cohort and a method, or go on with: wsi-kd embed"
        )
    cohort = _gather(rows, tiles_dir, settings)
    source: dict[str, Any] = {}
    note = ""
    try:
        if not cohort.pixels:
            raise CannotFit("no slide has tiles that can be read")
        source = as_numbers(fit_stains(np.concatenate(list(cohort.pixels.values())), stain.method))
    except CannotFit as fault:
        note = str(fault)
    sections = ("slides", "tile", "stain")
    made_with = {name: getattr(settings, name).model_dump(mode="json") for name in sections}
    made = {
        **stamp(KIND, without_paths(made_with)),
        "stain": cohort_numbers(settings, source),
        "slides": {slide_id: len(pixels) for slide_id, pixels in cohort.pixels.items()},
        "left_out": cohort.left_out,
        "note": note,
    }
    publish_json(stain_path, made)
    return made


def _gather(rows: Sequence[SlideRow], tiles_dir: Path, settings: Settings) -> _Cohort:
    stain = settings.stain
    wanted = COHORT_PIXELS // (stain.tiles * max(1, len(rows)))
    numbers = {"seed": stain.seed, "tiles": stain.tiles}
    cohort = _Cohort({}, {})
    with progress("stain", total=len(rows), unit="slides") as advance:
        for row in rows:
            tiles = read_tiles(tiles_dir / f"{row.slide_id}.h5")
            advance(slide_id=row.slide_id)
            if tiles.header["status"] != SlideStatus.OK:
                cohort.left_out[row.slide_id] = str(tiles.header["status"])
                continue
            try:
                cohort.pixels[row.slide_id] = slide_pixels(
                    tiles,
                    row,
                    numbers=numbers,
                    slides=settings.slides,
                    pixels_per_tile=max(1, min(wanted, PIXELS_PER_TILE)),
                )
            except (SlideProblem, CannotFit) as fault:
                why = cohort.left_out[row.slide_id] = unnamed(str(fault), row)
                warn(f"stain: {row.slide_id}: left out: {why}", slide_id=row.slide_id)
    return cohort
