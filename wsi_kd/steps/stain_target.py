"""The staining that all slides are brought to: the built-in one, or that of a slide or image of one's own."""

import math
from pathlib import Path

import numpy as np

from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.shapes import Coords
from wsi_kd.features.stain.fits import CannotFit, Fit, Method, PixelRows
from wsi_kd.features.stain.normalizer import fit_stains
from wsi_kd.features.stain.pixels import MIN_DENSITY, glass_light, optical_density
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.features.stain.sampling import PIXELS_PER_TILE, chosen_tiles, drawn_pixels
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.settings.stain import StainSettings
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.resolution import slide_resolution
from wsi_kd.steps.tile_pixels import open_tiles

TRIES_PER_TILE = 10
"""Places of the picture that are looked at for each tile of tissue that is wanted."""


def target_fit(settings: Settings, method: Method) -> Fit:
    """Fit the target, the same numbers each time.

    A file is looked at in tiles as `tile` describes them, at seeded places all over it; those with most
    stained pixels are fitted. A picture that tells no resolution is taken to have `tile.tile_mpp`.

    Raises:
        BadInput: a file that cannot be read or does not show two stains.
    """
    stain = settings.stain
    if stain.target is None:
        return built_in_target(method)
    if not stain.target.exists():
        raise BadInput(f"stain.target {stain.target}: no such file; correct the setting")
    try:
        pixels = _target_pixels(stain.target, settings)
        return fit_stains(pixels, method)
    except SlideProblem as problem:
        raise BadInput(f"stain.target {stain.target}: {problem.reason}") from None
    except CannotFit as fault:
        raise BadInput(
            f"stain.target {stain.target}: {fault}; name a slide or image with hematoxylin and eosin in it"
        ) from None


def _target_pixels(path: Path, settings: Settings) -> PixelRows:
    stain, tile = settings.stain, settings.tile
    with open_slide(path, background=settings.slides.background) as reader:
        slide_mpp = _mpp(reader, settings.slides, assumed=tile.tile_mpp)
        coords = _places(reader, tile_level0_px=tile.tile_px * tile.tile_mpp / slide_mpp, stain=stain)
    header = {
        "slide_mpp": slide_mpp,
        "tile_mpp": tile.tile_mpp,
        "tile_px": tile.tile_px,
        "mpp_tolerance": math.inf,
    }
    rng = np.random.default_rng(stain.seed)
    with open_tiles(path, coords, header=header, slides=settings.slides) as source:
        samples = [drawn_pixels(source.read(x, y), PIXELS_PER_TILE, rng=rng) for x, y in coords.tolist()]
    light = glass_light(np.concatenate(samples))
    stained = [np.mean(optical_density(rows, light=light).mean(axis=1) >= MIN_DENSITY) for rows in samples]
    best = np.sort(np.argsort(stained, kind="stable")[-stain.tiles :])
    return np.concatenate([samples[index] for index in best])


def _mpp(reader: SlideReader, slides: SlidesSettings, *, assumed: float) -> float:
    try:
        return slide_resolution(reader.properties, slides, override=None).mpp
    except SlideProblem:
        return assumed


def _places(reader: SlideReader, *, tile_level0_px: float, stain: StainSettings) -> Coords:
    """Draw corners of a grid over the bounds; a picture smaller than a tile has one."""
    left, top, width, height = reader.bounds
    columns, rows = (max(1, int(length / tile_level0_px)) for length in (width, height))
    chosen = chosen_tiles(columns * rows, tiles=TRIES_PER_TILE * stain.tiles, seed=stain.seed)
    corners = np.stack([chosen % columns, chosen // columns], axis=1) * tile_level0_px + [left, top]
    return np.round(corners).astype(np.int64)
