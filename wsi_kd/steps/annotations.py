"""Command group annotations: what annotation files hold, and the same in another program's format."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.core.errors import BadInput, SlideProblem, unknown_name
from wsi_kd.core.files import publish_text
from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.slides.frame import NOMINAL_FRAME, SlideFrame, slide_center_nm
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.resolution import slide_resolution
from wsi_kd.tissue.annotations import FORMATS, read_drawing, write_drawing
from wsi_kd.tissue.drawing import Annotation, Drawing

UM2_PER_MM2 = 1e6
FORMAT_OF_SUFFIX = {".geojson": "geojson", ".json": "geojson", ".ndpa": "ndpa"}
SHOWN_REPAIRS = 5


class ClassArea(NamedTuple):
    """The areas of one class; overlapping ones count twice."""

    name: str
    areas: int
    holes: int
    area_mm2: float | None
    """None where the resolution is unknown."""
    area_level0_px2: float


class CheckedFile(NamedTuple):
    """What an annotation file holds."""

    path: Path
    drawing: Drawing
    classes: tuple[ClassArea, ...]


class Converted(NamedTuple):
    """A file that was written, and what its format could not hold."""

    read: Drawing
    file_format: str
    losses: tuple[str, ...]


def check_annotations(path: Path, *, slide: Path | None, mpp: float | None) -> CheckedFile:
    """Read an annotation file and sum its areas by class.

    Args:
        path: the file.
        slide: its slide, for resolution and position; None: shapes are checked without.
        mpp: resolution of level 0 in um/px, before that of the slide.

    Raises:
        BadInput: the file cannot be used; the slide cannot be read or has no resolution; an impossible one
            is given.
    """
    _check_mpp(mpp)
    frame = NOMINAL_FRAME if slide is None else slide_frame(slide, mpp=mpp)
    drawing = read_drawing(path, frame=frame)
    um2_per_px2 = _um2_per_px2(frame, drawing, mpp=mpp)
    names = sorted({item.name for item in drawing.annotations})
    members = {name: [item for item in drawing.annotations if item.name == name] for name in names}
    classes = tuple(_sum(name, items, um2_per_px2) for name, items in members.items())
    return CheckedFile(path, drawing, classes)


def convert_annotations(
    source: Path, target: Path, *, file_format: str | None, slide: Path | None, mpp: float | None
) -> Converted:
    """Write the areas of an annotation file in another format.

    Args:
        source: file to read.
        target: file to write; its suffix tells the format where `file_format` does not.
        file_format: one of `FORMATS`.
        slide: the slide of the annotations; without one its bounds count from 0, 0, and NDPA cannot be had.
        mpp: resolution of level 0 in um/px, before that of the slide.

    Raises:
        BadInput: the file or the slide cannot be used, the format cannot be told or needs the slide, or
            `target` is `source`.
        RunFailed: `target` could not be written.
    """
    _check_mpp(mpp)
    if _is_same_file(source, target):
        raise BadInput(f"{target}: is the file that is read, and would lose what is not; name another OUT")
    chosen = file_format or FORMAT_OF_SUFFIX.get(target.suffix.lower())
    if chosen is None:
        raise BadInput(
            f"{target}: '{target.suffix}' does not tell the format; pass --to, one of {', '.join(FORMATS)}"
        )
    if chosen not in FORMATS:
        raise unknown_name("annotation format", chosen, FORMATS)
    frame = NOMINAL_FRAME if slide is None else slide_frame(slide, mpp=mpp)
    drawing = read_drawing(source, frame=frame)
    if slide is None and "ndpa" in {chosen, drawing.format}:
        raise BadInput(f"{source}: NDPA counts in nm on the glass; pass the slide with --slide")
    written = write_drawing(drawing.annotations, file_format=chosen, frame=frame)
    publish_text(target, written.text)
    return Converted(drawing, chosen, (*_not_read(drawing), *written.losses))


def slide_frame(slide: Path, *, mpp: float | None) -> SlideFrame:
    """Read a slide's geometry.

    Raises:
        BadInput: it cannot be read or has no resolution.
    """
    try:
        return _frame(slide, mpp=mpp)
    except SlideProblem as problem:
        raise BadInput(f"{slide}: {problem.reason}") from None


def told_drawing(drawing: Drawing) -> str:
    """Say in one line what a file holds besides its classes."""
    parts = [f"{drawing.format}: {len(drawing.annotations)} areas"]
    if drawing.repaired:
        more = len(drawing.repaired) - SHOWN_REPAIRS
        shown = "; ".join(drawing.repaired[:SHOWN_REPAIRS]) + (f"; {more} more" if more > 0 else "")
        parts.append(f"{len(drawing.repaired)} repaired ({shown})")
    return ", ".join([*parts, *_not_read(drawing)])


def _is_same_file(source: Path, target: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:  # one of them is absent
        return False


def _check_mpp(mpp: float | None) -> None:
    limits = SlidesSettings()
    if mpp is not None and not limits.min_mpp <= mpp <= limits.max_mpp:
        raise BadInput(
            f"--slide-mpp {mpp:g}: expected um/px from {limits.min_mpp:g} to {limits.max_mpp:g}, such as 0.25"
        )


def _frame(slide: Path, *, mpp: float | None) -> SlideFrame:
    limits = SlidesSettings()
    with open_slide(slide, background=limits.background) as reader:
        resolved = slide_resolution(reader.properties, limits, override=mpp)
        width, height = reader.level_dimensions[0]
        return SlideFrame(
            (reader.bounds.x_level0_px, reader.bounds.y_level0_px),
            width,
            height,
            resolved.mpp_x,
            resolved.mpp_y,
            slide_center_nm(reader.properties),
        )


def _not_read(drawing: Drawing) -> Iterable[str]:
    for kind, count in sorted(drawing.passed_over.items()):
        yield f"passed over: {count} {kind}"
    if drawing.measured:
        yield f"measurements of {drawing.measured} areas not read"


def _um2_per_px2(frame: SlideFrame, drawing: Drawing, *, mpp: float | None) -> float | None:
    """Without a slide NDPA's coordinates are um; those of the other formats are pixels of unknown size."""
    if frame is not NOMINAL_FRAME or drawing.format == "ndpa":
        return frame.mpp_x * frame.mpp_y
    return None if mpp is None else mpp**2


def _sum(name: str, items: Sequence[Annotation], um2_per_px2: float | None) -> ClassArea:
    area_level0_px2 = float(sum(item.area.area for item in items))
    parts = [part for item in items for part in getattr(item.area, "geoms", [item.area])]
    return ClassArea(
        name,
        areas=len(items),
        holes=sum(len(part.interiors) for part in parts),
        area_mm2=None if um2_per_px2 is None else area_level0_px2 * um2_per_px2 / UM2_PER_MM2,
        area_level0_px2=area_level0_px2,
    )
