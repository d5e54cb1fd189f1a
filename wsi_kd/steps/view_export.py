"""The viewer's static export: one slide of a run into a folder that opens from disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput, RunFailed, SlideProblem
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.progress import progress
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.export import Exported, ExportPlan, check_export_folder, plan_export, write_export
from wsi_kd.viewer.record import Viewed

LISTED_SLIDES = 10


class ExportChoice(NamedTuple):
    """What is exported."""

    slide_id: str
    """Empty where there is only one slide."""
    um_per_px: float
    """Finest resolution; 0 for the slide's own."""
    show_labels: bool


def export_slide(
    viewed: Viewed,
    folder: Path,
    choice: ExportChoice,
    *,
    on_plan: Callable[[ExportPlan], None] = lambda _: None,
) -> Exported:
    """Write one slide with its scores to `folder`.

    Args:
        viewed: where the slide is one of.
        folder: to write; a former export there is replaced, anything else refused.
        choice: which slide and how fine.
        on_plan: called with the size before anything is written.

    Raises:
        BadInput: an unknown slide, one that cannot be read, or a folder that is something else.
        RunFailed: it cannot be written, or the disk has too little room.
    """
    index = _index_of(viewed, choice.slide_id)
    folder = folder.resolve()  # a link stays a link
    if Path.cwd().is_relative_to(folder):
        raise BadInput(f"--static {folder}: it is replaced as a whole and you stand in it; name one below")
    check_export_folder(folder)
    desk = Desk(viewed, show_labels=choice.show_labels)
    try:
        answer = desk.slide(index)
        if not answer["readable"]:
            raise BadInput(f"{answer['slide_id']}: {answer['why_not']}")
        plan = plan_export(desk, index, um_per_px=choice.um_per_px)
        on_plan(plan)
        _check_room(folder, plan)
        with progress("view", total=plan.tiles, unit="tiles") as advance:
            return write_export(desk, plan, folder, threads=usable_cpus(), on_tile=advance)
    except SlideProblem as problem:
        raise BadInput(f"{viewed.slides[index].slide_id}: {problem.reason}") from None
    finally:
        desk.close()


def _index_of(viewed: Viewed, slide_id: str) -> int:
    ids = [slide.slide_id for slide in viewed.slides]
    if slide_id in ids:
        return ids.index(slide_id)
    if not slide_id and len(ids) == 1:
        return 0
    what = f"--slide-id {slide_id!r} is none of them" if slide_id else "name one with --slide-id"
    raise BadInput(f"{len(ids)} slides: {listed(ids, limit=LISTED_SLIDES)}; {what}")


def _check_room(folder: Path, plan: ExportPlan) -> None:
    """Refuse what will not fit."""
    beside = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(beside).free
    if plan.size_bytes > free:
        raise RunFailed(
            f"{folder}: about {plan.size_bytes / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free; "
            "free space, or choose a coarser --um-per-px"
        )
