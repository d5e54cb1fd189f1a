"""A slide's tissue from one of three sources: a file of the user's, the overview, or a segmentation network.

Each returns polygons in level-0 pixels and writes what it learns on the way into the mask's header, which
holds it for slides without tissue too.
"""

from pathlib import Path
from typing import Any, NamedTuple

import shapely

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.slides.overview import Overview
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.cleaning import fill_holes, without_small
from wsi_kd.tissue.colors import sort_pixels
from wsi_kd.tissue.edge import find_edges
from wsi_kd.tissue.edited import read_edited
from wsi_kd.tissue.fold import find_folds
from wsi_kd.tissue.network import NetworkMask
from wsi_kd.tissue.optical_density import WHITE, GlassColor, measure_light
from wsi_kd.tissue.pen import find_pen
from wsi_kd.tissue.polygons import SIMPLIFY_PX, Mark, mask_to_polygons, tidy_polygons
from wsi_kd.tissue.segmentation import refuse_dark_field, segment_tissue

UM2_PER_MM2 = 1e6


class SeenMarks(NamedTuple):
    """What lies on an overview that is no tissue, and how bright that is."""

    luminance: float
    """Median, 0 to 1."""
    pen: BitMask
    gray: BitMask
    """As dark and gray as the rim of a bubble."""


class TissueMasks(NamedTuple):
    """What is tissue on an overview, and which of it is folded."""

    tissue: BitMask
    folds: BitMask


def nothing_seen(mask: MaskSettings) -> dict[str, Any]:
    """Return the header entries of a slide that was not looked at; None is: not looked for."""
    return {
        "glass_rgb": list(WHITE),
        "pen_colors": list(mask.pen_colors),
        "pen_mm2": None,
        "edge_mm2": None,
        "fold_mm2": None,
        "class_mm2": {},
    }


def look_at_overview(
    overview: Overview, mask: MaskSettings, header: dict[str, Any], *, marks: list[Mark]
) -> SeenMarks:
    """Measure the glass and find pen; the header gets `glass_rgb` and `pen_mm2`, the marks its outline.

    In dark field there is no pen: every color there is light, not ink.

    Raises:
        SlideProblem: unreadable.
    """
    pixels, mpp = overview.pixels, _mpp(overview, header)
    light = measure_light(pixels)
    if light.luminance < mask.dark_field_luminance:
        nowhere = BitMask((pixels.shape[0], pixels.shape[1]))
        return SeenMarks(light.luminance, nowhere, nowhere)
    found = sort_pixels(pixels, glass=light.glass, pen_colors=mask.pen_colors)
    pen = find_pen(pixels, found.ink, mpp=mpp, glass=light.glass, min_pen_um2=mask.min_pen_um2)
    header.update(glass_rgb=list(light.glass), pen_mm2=_mm2(pen, mpp))
    _add_mark(marks, "Pen", pen, overview=overview, header=header)
    return SeenMarks(light.luminance, pen, found.gray)


def tissue_of_overview(
    overview: Overview, seen: SeenMarks, mask: MaskSettings, *, header: dict[str, Any], marks: list[Mark]
) -> shapely.MultiPolygon:
    """Segment the overview; the header gets `fold_mm2` and `edge_mm2`, the marks the outlines of both.

    Raises:
        SlideProblem: empty, or unreadable.
    """
    refuse_dark_field(seen.luminance, dark_field_luminance=mask.dark_field_luminance)
    mpp = _mpp(overview, header)
    edges = find_edges(seen.gray, mpp=mpp, max_edge_um=mask.max_edge_um)
    header["edge_mm2"] = _mm2(edges, mpp)
    _add_mark(marks, "Edge", edges, overview=overview, header=header)
    tissue, folds = tissue_masks(overview, edges | seen.pen, mask, header=header)
    header["fold_mm2"] = _mm2(folds, mpp)
    _add_mark(marks, "Fold", folds, overview=overview, header=header)
    if mask.remove_folds:
        tissue = without_small(tissue & ~folds, mask.min_tissue_um2 / mpp**2)
        _require(tissue, "all of the tissue counts as folded; set mask.remove_folds: false")
    ratio = overview.level0_px_per_px
    return _outline(tissue, level0_px_per_px=ratio, origin=overview.origin, header=header)


def tissue_masks(
    overview: Overview, excluded: BitMask, mask: MaskSettings, *, header: dict[str, Any]
) -> TissueMasks:
    """Find tissue outside of `excluded`, and the folds in it.

    Raises:
        SlideProblem: empty, or unreadable.
    """
    mpp = _mpp(overview, header)
    tissue = segment_tissue(
        overview.pixels,
        mpp=mpp,
        min_tissue_um2=mask.min_tissue_um2,
        min_hole_um2=mask.min_hole_um2,
        close_um=mask.close_um,
        min_saturation=mask.min_saturation,
        min_texture=mask.min_texture,
        excluded=excluded,
    )
    folds = find_folds(
        overview.pixels,
        tissue,
        mpp=mpp,
        glass=_glass(header),
        fold_ratio=mask.fold_ratio,
        min_fold_um2=mask.min_fold_um2,
    )
    return TissueMasks(tissue, folds)


def tissue_of_network(found: NetworkMask, mask: MaskSettings, header: dict[str, Any]) -> shapely.MultiPolygon:
    """Clean a network's mask by size; the header gets the area of each class.

    Raises:
        SlideProblem: empty.
    """
    classes = {name.casefold(): area for name, area in found.class_mm2.items()}
    header.update(class_mm2=found.class_mm2, pen_mm2=classes.get("pen"), fold_mm2=classes.get("fold"))
    px_um2 = (header["slide_mpp"] * found.level0_px_per_px) ** 2
    tissue = without_small(BitMask.of(found.tissue), mask.min_tissue_um2 / px_um2)
    tissue = fill_holes(tissue, mask.min_hole_um2 / px_um2)
    _require(
        tissue,
        f"no tissue: the network sees {found.tissue.sum() * px_um2 / UM2_PER_MM2:.3g} mm2 and no piece "
        f"reaches {mask.min_tissue_um2:g} um2; see class_mm2 in the mask's header",
    )
    x, y, _, _ = header["bounds"]
    return _outline(tissue, level0_px_per_px=found.level0_px_per_px, origin=(x, y), header=header)


def tissue_of_file(path: Path, header: dict[str, Any]) -> shapely.MultiPolygon:
    """Read edited tissue, which is taken as it stands.

    Raises:
        BadInput: the file cannot be used.
        SlideProblem: empty, where it covers nothing of the slide.
    """
    bounds = Box(*header["bounds"])
    edited = read_edited(
        path,
        level0_width_px=header["level0_width"],
        level0_height_px=header["level0_height"],
        bounds=bounds,
    )
    tissue = tidy_polygons(edited.outline, tolerance_level0_px=edited.tolerance_level0_px, bounds=bounds)
    if tissue.is_empty:
        reason = f"the edited outline {path.name} covers nothing of the slide; correct it"
        raise SlideProblem(SlideStatus.EMPTY, reason)
    return tissue


def _outline(
    tissue: BitMask, *, level0_px_per_px: float, origin: tuple[int, int], header: dict[str, Any]
) -> shapely.MultiPolygon:
    outline = mask_to_polygons(tissue, level0_px_per_px=level0_px_per_px, origin=origin)
    return tidy_polygons(
        outline, tolerance_level0_px=SIMPLIFY_PX * level0_px_per_px, bounds=Box(*header["bounds"])
    )


def _add_mark(
    marks: list[Mark], name: str, found: BitMask, *, overview: Overview, header: dict[str, Any]
) -> None:
    ratio = overview.level0_px_per_px
    outline = _outline(found, level0_px_per_px=ratio, origin=overview.origin, header=header)
    if not outline.is_empty:
        marks.append(Mark(name, outline))


def _require(tissue: BitMask, reason: str) -> None:
    if not tissue.any():
        raise SlideProblem(SlideStatus.EMPTY, reason)


def _glass(header: dict[str, Any]) -> GlassColor:
    red, green, blue = header["glass_rgb"]
    return red, green, blue


def _mpp(overview: Overview, header: dict[str, Any]) -> float:
    return float(header["slide_mpp"] * overview.level0_px_per_px)


def _mm2(where: BitMask, mpp: float) -> float:
    return float(where.count() * mpp**2 / UM2_PER_MM2)
