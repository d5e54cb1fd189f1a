"""Tiny slides for every part's tests: drawn in a fraction of a second, their truth in level-0 pixels."""

import csv
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from shapely.affinity import translate

from wsi_kd.demo.pyramid import Container, write_pyramid

Kind: TypeAlias = Literal[
    "normal",  # generic TIFF, 0.5 um/px, two pieces of tissue
    "tumor",  # the same with one tumor region and its annotation
    "empty",  # glass only
    "missing_mpp",  # no resolution anywhere
    "implausible_mpp",  # a 72 dpi tag: 352.8 um/px
    "truncated",  # cut at 40 % of its bytes
    "damaged_tiles",  # opens, but the tile that holds the tumor's center is no JPEG
    "transparent",  # Aperio SVS, right half never scanned: alpha 0
    "bounds",  # Leica SCN: the scanned area starts at SCN_ORIGIN, the rest is alpha 0
    "dark_field",  # fluorescence: bright spots on black
]

WIDTH_PX, HEIGHT_PX, TILE_PX, MPP = 1024, 768, 256, 0.5
SCN_ORIGIN = (2048, 1024)
IMPLAUSIBLE_MPP = 352.8
GLASS = (243, 241, 245)
PIECES = ((300, 380, 200, 250), (760, 400, 180, 220))
TUMOR = (320, 420, 110, 130)


class SyntheticSlide(NamedTuple):
    """A slide on disk and its truth in level-0 pixels (OpenSlide's frame)."""

    path: Path
    kind: str
    label: str
    mpp: float | None
    origin: tuple[int, int]
    tissue: shapely.MultiPolygon
    tumor: shapely.Polygon
    annotation: Path | None


class SyntheticCohort(NamedTuple):
    """A manifest and its slides."""

    manifest: Path
    slides: tuple[SyntheticSlide, ...]


def ellipse(shape) -> shapely.Polygon:
    """An ellipse (center x, y, radius x, y in level-0 pixels) as a polygon."""
    x, y, radius_x, radius_y = shape
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return shapely.Polygon(np.column_stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)]))


def paint_slide(*, seed: int, with_tumor: bool, stain: float = 1.0) -> np.ndarray:
    """Pixels (768, 1024, 3): two pink pieces with small nuclei; inside TUMOR they are large and dense."""
    rng = np.random.default_rng(seed)
    tissue, tumor = _filled(PIECES), _filled([TUMOR] if with_tumor else [])
    hematoxylin = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for count, radius_px, area in ((9000, 4, (tissue > 0) & (tumor == 0)), (5000, 8, tumor > 0)):
        for x, y in zip(rng.integers(0, WIDTH_PX, count), rng.integers(0, HEIGHT_PX, count), strict=True):
            if area[y, x]:
                center = (int(x), int(y))
                cv2.circle(
                    hematoxylin, center, radius_px + int(rng.integers(0, 2)), float(rng.uniform(0.6, 1.0)), -1
                )
    eosin = cv2.GaussianBlur(rng.normal(0, 1, hematoxylin.shape).astype(np.float32), (0, 0), 3) * 1.5 + 0.35
    eosin = np.clip(eosin, 0.1, 1) * (tissue > 0)
    density = stain * cv2.GaussianBlur(hematoxylin, (0, 0), 0.8)[..., None] * np.float32([1.1, 1.3, 0.6])
    density += stain * eosin[..., None] * np.float32([0.15, 1.0, 0.6])
    pixels = np.float32(GLASS) * np.exp(-density) + rng.normal(0, 1.5, (*hematoxylin.shape, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def draw_slide(
    folder: Path, kind: Kind, *, name: str = "", seed: int = 0, stain: float = 1.0
) -> SyntheticSlide:
    """Draw one slide of `kind` as `folder/<name or kind>.<suffix>`; a tumor with `<name>.geojson` beside it.

    Everything but `normal`, `empty` and `dark_field` has a tumor region.
    """
    with_tumor = kind not in {"normal", "empty", "dark_field"}
    containers: dict[str, Container] = {"transparent": "svs", "bounds": "scn"}
    container = containers.get(kind, "tiff")
    mpp = {"missing_mpp": None, "implausible_mpp": IMPLAUSIBLE_MPP}.get(kind, MPP)
    origin = SCN_ORIGIN if kind == "bounds" else (0, 0)
    path = folder / f"{name or kind}.{container}"
    write_pyramid(
        path, _pixels(kind, seed=seed, stain=stain), mpp=mpp, container=container, offset_level0_px=origin
    )
    if kind == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: int(0.4 * len(content))])
    if kind == "damaged_tiles":
        spoil_tile(path, TUMOR[0] // TILE_PX, TUMOR[1] // TILE_PX)
    pieces = [] if kind in {"empty", "dark_field"} else [ellipse(piece) for piece in PIECES]
    if kind == "transparent":
        pieces = pieces[:1]
    tumor = ellipse(TUMOR) if with_tumor else shapely.Polygon()
    annotation = write_annotation(path.with_suffix(".geojson"), tumor) if with_tumor else None
    return SyntheticSlide(
        path=path,
        kind=kind,
        label="tumor" if with_tumor else "normal",
        mpp=mpp,
        origin=origin,
        tissue=translate(shapely.MultiPolygon(pieces), *origin),
        tumor=translate(tumor, *origin),
        annotation=annotation,
    )


def spoil_tile(path: Path, column: int, row: int) -> None:
    """Overwrite one level-0 tile (256 px) of a TIFF with zeros: the slide opens, reading that tile fails."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        index = row * -(-page.imagewidth // TILE_PX) + column
        offset, size = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes(size))


def write_annotation(path: Path, area: shapely.Polygon, *, name: str = "Tumor") -> Path:
    """Write one QuPath annotation; `area` counts from the corner of the slide's bounds, as QuPath does."""
    feature = {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(area),
        "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def draw_cohort(folder: Path, *, patients: int = 8, seed: int = 0) -> SyntheticCohort:
    """Draw a cohort: even patients are normal, odd ones have tumor; the first half has a second slide.

    Stain strength varies between slides. Eight patients give twelve slides, six of each label, in two sites.
    """
    slides, rows = [], []
    for patient in range(patients):
        for copy in range(2 if patient < patients // 2 else 1):
            name = f"case{patient:02d}_{copy}"
            number = 100 * seed + 2 * patient + copy
            stain = float(np.random.default_rng(number).uniform(0.7, 1.3))
            slide = draw_slide(
                folder, "tumor" if patient % 2 else "normal", name=name, seed=number, stain=stain
            )
            slides.append(slide)
            annotation = slide.annotation.name if slide.annotation else ""
            rows.append(
                [name, slide.path.name, slide.label, f"case{patient:02d}", "AB"[patient % 4 // 2], annotation]
            )
    manifest = folder / "slides.csv"
    with manifest.open("w", newline="") as handle:
        csv.writer(handle).writerows([["slide_id", "path", "label", "case_id", "site", "annotation"], *rows])
    return SyntheticCohort(manifest, tuple(slides))


@pytest.fixture(scope="session")
def synthetic_slide(tmp_path_factory) -> Callable[[Kind], SyntheticSlide]:
    """Give the slide of a kind, drawn when first asked for: `synthetic_slide("tumor").path`."""
    return cache(partial(draw_slide, tmp_path_factory.mktemp("synthetic_slides")))


@pytest.fixture(scope="session")
def synthetic_cohort(tmp_path_factory) -> SyntheticCohort:
    """Twelve slides of eight patients with a manifest, drawn once a session; write nothing there."""
    return draw_cohort(tmp_path_factory.mktemp("synthetic_cohort"))


def _pixels(kind: str, *, seed: int, stain: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "empty":
        noise = rng.normal(0, 1.0, (HEIGHT_PX, WIDTH_PX, 3))
        return np.clip(np.float32(GLASS) + noise, 0, 255).astype(np.uint8)
    if kind == "dark_field":
        spots = cv2.GaussianBlur((rng.random((HEIGHT_PX, WIDTH_PX)) > 0.999).astype(np.float32), (0, 0), 3)
        return np.clip(spots[..., None] * np.float32([200, 3000, 400]) + 4, 0, 255).astype(np.uint8)
    pixels = paint_slide(seed=seed, with_tumor=kind != "normal", stain=stain)
    if kind != "transparent":
        return pixels
    alpha = np.full((HEIGHT_PX, WIDTH_PX, 1), 255, np.uint8)
    alpha[:, WIDTH_PX // 2 :] = 0
    return np.concatenate([pixels * (alpha > 0), alpha], axis=2).astype(np.uint8)


def _filled(ellipses) -> np.ndarray:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    for x, y, radius_x, radius_y in ellipses:
        cv2.ellipse(mask, (x, y), (radius_x, radius_y), 0, 0, 360, 255, -1)
    return mask
