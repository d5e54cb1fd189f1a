"""What people draw in QuPath or ASAP: outlines of tissue and annotations, and their faults all at once.

A broken drawing is the user's to mend, so it is bad input and no slide status; the workflow's plan, the
doctor and `infer` look at every drawing first, so that none stops a run in the middle.
"""

from collections.abc import Sequence
from pathlib import Path

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import TileSettings
from wsi_kd.tissue.annotations import Annotation, read_annotations
from wsi_kd.tissue.edited import read_edited_tissue


def edited_outline(row: SlideRow, edited_dir: Path | None) -> Path | None:
    """Return the slide's hand-drawn outline `<slide_id>.geojson`, if there is one.

    Raises:
        BadInput: `edited_dir` is no folder.
    """
    if edited_dir is None:
        return None
    if not edited_dir.is_dir():
        raise BadInput(f"mask.edited_dir: {edited_dir} is no folder; correct it or remove the setting")
    path = edited_dir / f"{row.slide_id}.geojson"
    return path if path.is_file() else None


def slide_annotations(
    row: SlideRow, tile: TileSettings, *, origin: tuple[int, int], negative_label: str | None
) -> tuple[Annotation, ...]:
    """Read the areas of a row's annotation file in the level-0 frame; none where the row names no file.

    Raises:
        BadInput: not readable, or nothing of a positive class on a slide that is not negative.
    """
    if row.annotation is None:
        return ()
    annotations = read_annotations(row.annotation, origin=origin)
    names = {item.name.casefold() for item in annotations}
    positive = {name.casefold() for name in tile.positive_names}
    if negative_label not in {None, row.label} and not names & positive:
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
                read_edited_tissue(outline, origin=(0, 0))
        except BadInput as error:
            faults.append(str(error))
        try:
            slide_annotations(row, settings.tile, origin=(0, 0), negative_label=negative_label)
        except BadInput as error:
            faults.append(str(error))
    return tuple(faults)
