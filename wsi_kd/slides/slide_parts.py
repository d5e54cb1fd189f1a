"""The files that a slide consists of besides the one that names it, and which of them are missing.

MIRAX: those in the folder of its name. Hamamatsu VMS and VMU: those that its index names. DICOM: those beside
it of the same series; nothing tells how many there should be.
"""

from configparser import ConfigParser, Error
from pathlib import Path
from typing import Final

from wsi_kd.slides.declared import refuse_endless_mirax
from wsi_kd.slides.dicom_header import series_of
from wsi_kd.slides.hamamatsu_index import MAX_NAMED, hamamatsu_parts, refuse_incomplete_index
from wsi_kd.slides.protocol import unreadable

MIRAX: Final = ".mrxs"
MIRAX_INDEX: Final = "Slidedat.ini"


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return the other files of a slide that are there, sorted by name; of most formats there are none.

    Raises:
        OSError: a file or a folder cannot be read.
    """
    if path.is_dir():
        return ()
    if path.suffix.lower() == MIRAX:
        folder = path.with_suffix("")
        found = folder.iterdir() if folder.is_dir() else iter(())
    elif series := series_of(path):
        beside = (other for other in path.parent.iterdir() if other.name != path.name)
        found = (other for other in beside if series_of(other) == series)
    else:
        found = iter(hamamatsu_parts(path).values())
    return tuple(sorted(part for part in found if part.is_file()))


def refuse_missing_parts(path: Path) -> None:
    """Refuse a slide whose index names files that are not there.

    A MIRAX slide's .mrxs file is a small JPEG of the slide: without the folder beside it, it would pass for
    an image.

    Raises:
        SlideProblem: unreadable, listing what is missing.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == MIRAX:
        _refuse_missing_mirax(path)
    else:
        refuse_incomplete_index(path)


def _refuse_missing_mirax(path: Path) -> None:
    folder = path.with_suffix("")
    index = folder / MIRAX_INDEX
    if not index.is_file():
        raise unreadable(
            f"{folder.name}/{MIRAX_INDEX} is missing; copy the folder that belongs to the .mrxs file"
        )
    missing = [name for name in _mirax_parts(index) if not (folder / name).is_file()]
    if missing:
        named = ", ".join(missing[:MAX_NAMED])
        raise unreadable(f"{len(missing)} files are missing in {folder.name}/ ({named}); copy it again")


def _mirax_parts(index: Path) -> list[str]:
    """Return the names of the data files that a MIRAX index lists."""
    parser = ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        parser.read_string(index.read_text(encoding="utf-8-sig", errors="replace"))
        refuse_endless_mirax(parser, name=f"{index.parent.name}/{index.name}")
        parts = dict(parser["DATAFILE"])
        listed = [parts[f"file_{number}"] for number in range(int(parts["file_count"]))]
        return [parser["HIERARCHICAL"]["indexfile"], *listed]
    except (Error, KeyError, ValueError):
        raise unreadable(f"{index.parent.name}/{index.name} is damaged; copy the folder again") from None
