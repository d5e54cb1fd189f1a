"""A folder that a scanner drops slides into: which of them have come in whole.

Nothing is asked of the operating system but names, sizes and times, so network shares work too. Whether a
file still grows is told by what is seen on this machine's clock, never by comparing a file's time with it:
the share's clock may differ, and copies keep the time of their source.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from wsi_kd.bags.slide_files import PICTURE_EXTENSIONS, is_folder, is_slide_folder, slides_in
from wsi_kd.bags.slide_search import slides_below
from wsi_kd.core.errors import BadInput
from wsi_kd.slides.hamamatsu_index import hamamatsu_parts

Signature: TypeAlias = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and time of change (ns) of every file of a slide."""

WAIT_FACTOR = 2.0
"""A slide that is still but does not open is looked at again after so many times the stillness."""
GIVE_UP = 16.0
"""Stillness, in units of `settle_seconds`, after which a slide that does not open is let through."""


class _Seen(NamedTuple):
    """What is known of a slide in the folder."""

    signature: Signature
    since: float
    """When it was first seen like this."""
    due: float
    """When it is looked at next."""
    handed_out: bool


class DropFolder:
    """Follows a folder; `still` names the slides that have come in whole since the last call."""

    def __init__(self, folder: Path, *, recursive: bool, settle_seconds: float) -> None:
        """Follow `folder`, with all below it where `recursive`.

        A slide is let through once its files have not changed for `settle_seconds`.
        """
        self.folder = folder
        self.recursive = recursive
        self.settle_seconds = settle_seconds
        self._seen: dict[Path, _Seen] = {}
        self._was_there = False

    def still(self, now: float) -> list[Path]:
        """Return the slides that are due: unchanged for long enough, and not handed out since they changed.

        Args:
            now: time in seconds, on any clock that only runs forward.

        Raises:
            BadInput: there is no such folder, and there was none before.
        """
        before, self._seen = self._seen, {}
        due = []
        for path in self._slides():
            signature = signature_of(path)
            if not signature:
                continue  # gone or moving while it is looked at, or still empty
            known = before.get(path)
            if known is None or known.signature != signature:
                known = _Seen(signature, now, now + self.settle_seconds, handed_out=False)
            if not known.handed_out and now >= known.due:
                due.append(path)
                known = known._replace(handed_out=True)
            self._seen[path] = known
        return due

    def refuse_absent(self) -> None:
        """Refuse a folder that is not there and was not before.

        Raises:
            BadInput: naming it.
        """
        if not (is_folder(self.folder) or self._was_there):
            raise BadInput(f"{self.folder}: no such folder; expected the one that the scanner writes to")

    def wait_more(self, path: Path, now: float) -> bool:
        """Put off a slide that is still but does not open; False once it has been still for too long."""
        known = self._seen[path]
        stillness = now - known.since
        if stillness >= GIVE_UP * self.settle_seconds:
            return False
        due = known.since + max(WAIT_FACTOR * stillness, self.settle_seconds)
        self._seen[path] = known._replace(due=due, handed_out=False)
        return True

    @property
    def waiting(self) -> int:
        """How many slides are there that have not been handed out."""
        return sum(not known.handed_out for known in self._seen.values())

    def _slides(self) -> list[Path]:
        self.refuse_absent()
        if not is_folder(self.folder):
            return []  # a share that is away for a while
        self._was_there = True
        try:
            found = slides_below(self.folder) if self.recursive else slides_in(self.folder)
        except BadInput:
            return []
        return [path for path in found if not path.name.lower().endswith(PICTURE_EXTENSIONS)]


def signature_of(path: Path) -> Signature:
    """Return name, size and time of every file of a slide; () where one is empty or cannot be looked at."""
    try:
        found = [(str(file), file.stat()) for file in sorted(files_of(path))]
    except OSError:
        return ()
    if not all(stat.st_size for name, stat in found if Path(name) == path and not path.is_dir()):
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def files_of(path: Path) -> Iterator[Path]:
    """Yield every file that a slide consists of: of most formats one.

    OME-Zarr: all in the folder. MIRAX: those of the folder beside it too. DICOM: every `.dcm` beside it, for
    a series lies in one folder. Hamamatsu VMS and VMU: those beside it whose names begin alike, or that its
    index names.
    """
    ending = path.suffix.lower()
    if is_slide_folder(path):
        yield from _below(path)
        return
    yield path
    if ending == ".mrxs":
        yield from _below(path.with_suffix(""))
    elif ending in {".dcm", ".vms", ".vmu"}:
        named = set(hamamatsu_parts(path).values())
        for other in path.parent.iterdir():
            alike = other.suffix.lower() == ".dcm" if ending == ".dcm" else other.name.startswith(path.stem)
            if (alike or other in named) and other != path and other.is_file():
                yield other


def _below(folder: Path) -> Iterator[Path]:
    for current, _, names in os.walk(folder):
        yield from (Path(current) / name for name in names)
