"""Where the files of slides are: a run records no paths, so the user says it."""

from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.bags.manifest import SlideRow, rows_of_slides
from wsi_kd.bags.slide_files import slides_in


class Sources(NamedTuple):
    """Where the slides' files may be found; a run records no paths."""

    manifest: Path | None = None
    slides_dir: Path | None = None
    slides: tuple[Path, ...] = ()
    slide_mpp: float | None = None


def known_slides(sources: Sources) -> tuple[SlideRow, ...]:
    """List the slides whose files are known, by manifest, folder or file.

    Raises:
        BadInput: a manifest, folder or file that cannot be used.
    """
    if sources.manifest is not None:
        return read_rows(sources.manifest, slides_dir=sources.slides_dir)
    paths = [*sources.slides, *(slides_in(sources.slides_dir) if sources.slides_dir else ())]
    return rows_of_slides(paths, sources.slide_mpp) if paths else ()
