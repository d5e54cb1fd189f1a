"""What people draw in QuPath, ASAP and their like: outlines and annotations, and their faults all at once.

A broken drawing is the user's to mend, so it is bad input and no slide status; the workflow's plan, the
doctor and `infer` look at every drawing first, so that none stops a run in the middle.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import TileSettings
from wsi_kd.slides.frame import NOMINAL_FRAME, SlideFrame
from wsi_kd.tiling.labels import is_named
from wsi_kd.tissue.annotations import read_drawing
from wsi_kd.tissue.drawing import Annotation
from wsi_kd.tissue.edited import check_edited
from wsi_kd.tissue.edited_files import find_edited


def edited_outline(row: SlideRow, edited_dir: Path | None) -> Path | None:
    """Return the slide's file of edited tissue (`<slide_id>.geojson`, .png, .tif), if there is one.

    Raises:
        BadInput: `edited_dir` is no folder, or holds two files of the slide.
    """
    if edited_dir is None:
        return None
    if not edited_dir.is_dir():
        raise BadInput(f"mask.edited_dir: {edited_dir} is no folder; correct it or remove the setting")
    return find_edited(edited_dir, row.slide_id)


def frame_of(header: Mapping[str, Any]) -> SlideFrame:
    """Return the geometry that a mask's header (or one made from it) holds."""
    x, y, _, _ = header["bounds"]
    center = header.get("center_nm")
    return SlideFrame(
        (x, y),
        header["level0_width"],
        header["level0_height"],
        header["mpp_x"],
        header["mpp_y"],
        None if center is None else (center[0], center[1]),
    )


def slide_annotations(
    row: SlideRow, tile: TileSettings, *, frame: SlideFrame, negative_label: str | None
) -> tuple[Annotation, ...]:
    """Read the areas of a row's annotation file in the level-0 frame; none where the row names no file.

    Raises:
        BadInput: not readable, or nothing of a positive class on a slide that is not negative.
    """
    if row.annotation is None:
        return ()
    annotations = read_drawing(row.annotation, frame=frame).annotations
    is_found = any(is_named(item.name, tile.positive_names) for item in annotations)
    if negative_label not in {None, row.label} and not is_found:
        found = ", ".join(sorted({item.name or "(no class)" for item in annotations})) or "no area at all"
        raise BadInput(
            f"{row.annotation}: {row.slide_id} is labeled '{row.label}' but has no area of a class in "
            f"tile.positive_names ({', '.join(tile.positive_names)}); found: {found}"
        )
    return annotations


def drawing_faults(
    rows: Sequence[SlideRow], settings: Settings, *, negative_label: str | None
) -> tuple[str, ...]:
    """Read every outline and annotation of the slides and tell what is wrong, one line a file.

    Args:
        rows: the slides.
        settings: sections `mask` and `tile` are used.
        negative_label: the manifest's negative class, if known.

    Raises:
        BadInput: `mask.edited_dir` is no folder.
    """
    faults = []
    for row in rows:
        outline = edited_outline(row, settings.mask.edited_dir)
        try:
            if outline is not None:
                check_edited(outline)
        except BadInput as error:
            faults.append(str(error))
        try:
            slide_annotations(row, settings.tile, frame=NOMINAL_FRAME, negative_label=negative_label)
        except BadInput as error:
            faults.append(str(error))
    return tuple(faults)
