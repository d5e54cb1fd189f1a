"""The numbers by which tiles are brought to another staining, as headers and checkpoints carry them.

What a whole run shares (`stain` in headers) and what belongs to one slide (`stain_source`) are plain JSON, so
that `infer` does to its slide exactly what the workflow did to those of the training.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.core.provenance import check_schema
from wsi_kd.features.stain.fits import CannotFit, PixelRows, as_numbers, from_numbers
from wsi_kd.features.stain.normalizer import Normalizer, create_normalizer, fit_stains
from wsi_kd.features.stain.sampling import PIXELS_PER_TILE, chosen_tiles, sample_pixels
from wsi_kd.features.store import TileFile
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.steps.stain_target import target_fit
from wsi_kd.steps.tile_pixels import open_tiles

KIND: Final = "stain"
REMAKE: Final = "wsi-kd stain"
UNCHANGED: Final[Mapping[str, Any]] = MappingProxyType({})
"""The numbers of a run that leaves stains as they are."""


class SlideStains(NamedTuple):
    """What is done to the tiles of one slide."""

    normalize: Normalizer | None
    """None where tiles stay as they are."""
    source: dict[str, Any]
    """The slide's own staining; empty where tiles stay as they are."""
    note: str
    """Why they do although a method is set; else empty."""


def shared_numbers(settings: Settings, stain_path: Path | None) -> dict[str, Any]:
    """Return what all slides of a run share: method, target, and the source of a cohort's fit.

    Args:
        settings: sections `slides`, `tile` and `stain` are used.
        stain_path: what the step `stain` wrote; read where `stain.fit` is cohort.

    Returns:
        An empty mapping where `stain.method` is none.

    Raises:
        BadInput: a target that cannot be used, a cohort's fit that is missing, damaged or of other settings.
    """
    stain = settings.stain
    if stain.method == "none":
        return {}
    if stain.fit == "slide":
        return _told(settings, target=as_numbers(target_fit(settings, stain.method)), source={})
    if stain_path is None:
        raise BadInput(f"stain.fit cohort needs the cohort's fit; make it with: {REMAKE}")
    found = read_json(stain_path, remake=REMAKE)
    check_schema(found, KIND, where=stain_path, remake=REMAKE)
    numbers: dict[str, Any] = found["stain"]
    expected = _told(settings, target=numbers["target"], source=numbers["source"])
    odd = [key for key, value in expected.items() if numbers.get(key) != value]
    if odd:
        raise BadInput(f"{stain_path}: made with another stain.{odd[0]}; make it anew with: {REMAKE}")
    return numbers


def cohort_numbers(settings: Settings, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the step `stain` writes for all slides of a run."""
    assert settings.stain.method != "none"
    target = as_numbers(target_fit(settings, settings.stain.method))
    return _told(settings, target=target, source=dict(source))


def _told(settings: Settings, *, target: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    stain = settings.stain
    return {
        "method": stain.method,
        "fit": stain.fit,
        "tiles": stain.tiles,
        "seed": stain.seed,
        "target": dict(target),
        "source": dict(source),
    }


def slide_pixels(
    tiles: TileFile,
    row: SlideRow,
    *,
    numbers: Mapping[str, Any],
    slides: SlidesSettings,
    pixels_per_tile: int = PIXELS_PER_TILE,
) -> PixelRows:
    """Draw pixels of a slide's tiles.

    Raises:
        SlideProblem: the slide cannot be opened.
        CannotFit: no tile could be read.
    """
    seed = int(numbers["seed"])
    chosen = tiles.coords[chosen_tiles(len(tiles.coords), tiles=int(numbers["tiles"]), seed=seed)]
    with open_tiles(row.path, chosen, header=tiles.header, slides=slides) as source:
        return sample_pixels(source.read, chosen, seed=seed, pixels_per_tile=pixels_per_tile)


def slide_stains(
    tiles: TileFile, row: SlideRow, *, numbers: Mapping[str, Any], slides: SlidesSettings
) -> SlideStains:
    """Fit a slide, or take the cohort's fit; a slide that shows no two stains stays as it is, with a note.

    Raises:
        SlideProblem: the slide cannot be opened.
    """
    if not numbers:
        return SlideStains(None, {}, "")
    source = numbers["source"]
    if numbers["fit"] == "slide":
        try:
            pixels = slide_pixels(tiles, row, numbers=numbers, slides=slides)
            source = as_numbers(fit_stains(pixels, numbers["method"]))
        except CannotFit as fault:
            return SlideStains(None, {}, f"stains not normalized: {fault}")
    if not source:
        return SlideStains(None, {}, "stains not normalized: the cohort shows no two stains")
    normalize = create_normalizer(
        numbers["method"], source=from_numbers(source), target=from_numbers(numbers["target"])
    )
    return SlideStains(normalize, dict(source), "")
