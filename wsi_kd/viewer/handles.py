"""Open slides: a bounded number of them, shared by threads, the least recently used closed first."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from wsi_kd.core.errors import SlideProblem, WsiKdError
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.identity import identity_of
from wsi_kd.slides.protocol import unreadable
from wsi_kd.viewer.opened import Opened

MAX_OPEN: Final = 8
Opener: TypeAlias = Callable[[Path], Opened]
"""Opens a slide, or raises SlideProblem."""


class _Kept:
    """A slide that is open, and who uses it."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.users = 0
        self.retired = False


class _Opening:
    """Held while a slide is opened; dropped when no thread is at it."""

    def __init__(self) -> None:
        self.lock = Lock()


class Handles:
    """Lends open slides by path; at most `limit` stay open beside those in use."""

    def __init__(self, opener: Opener, *, limit: int = MAX_OPEN) -> None:
        self._opener = opener
        self._limit = limit
        self._open: OrderedDict[Path, _Kept] = OrderedDict()
        self._crashed: dict[Path, tuple[FileIdentity, SlideProblem]] = {}
        self._lock = Lock()
        self._opening: WeakValueDictionary[Path, _Opening] = WeakValueDictionary()

    @contextmanager
    def lend(self, path: Path) -> Iterator[Opened]:
        """Lend an open slide; one whose file was replaced since is opened anew.

        Raises:
            SlideProblem: unreadable, as `open_slide` says it; reader_crashed, of a slide that killed the
                process which read it, now or before: the same file is not tried again.
        """
        identity = identity_of(path)
        self._refuse_crashed(path, identity)
        try:
            slide = self._take(path, identity)
            try:
                yield slide.opened
            finally:
                self._give_back(slide)
        except SlideProblem as problem:
            if problem.status == SlideStatus.READER_CRASHED:
                self._drop_crashed(path, identity, problem)
            raise

    def close(self) -> None:
        """Close every slide that nobody uses; those in use close when they are given back."""
        with self._lock:
            idle = [slide for path in list(self._open) if (slide := self._retire(path))]
        for slide in idle:
            slide.opened.close()

    def _refuse_crashed(self, path: Path, identity: FileIdentity) -> None:
        with self._lock:
            crashed = self._crashed.get(path)
        if crashed is not None and crashed[0] == identity:
            raise SlideProblem(crashed[1].status, crashed[1].reason)

    def _drop_crashed(self, path: Path, identity: FileIdentity, problem: SlideProblem) -> None:
        with self._lock:
            self._crashed[path] = (identity, problem)
            idle = self._retire(path)
        if idle is not None:
            idle.opened.close()

    def _take(self, path: Path, identity: FileIdentity) -> _Kept:
        """Return the open slide, or open it; threads that ask for the same one wait for the first."""
        with self._lock:
            opening = self._opening.setdefault(path, _Opening())
        with opening.lock:
            found = self._found(path, identity)
            if found is not None:
                return found
            self._refuse_crashed(path, identity)  # while this thread waited
            return self._keep(path, _Kept(self._fresh(path)))

    def _fresh(self, path: Path) -> Opened:
        try:
            return self._opener(path)
        except (WsiKdError, MemoryError):
            raise
        except Exception as error:  # a damaged slide may make its reader raise anything
            raise unreadable(f"opening failed ({type(error).__name__}); copy or export it again") from None

    def _found(self, path: Path, identity: FileIdentity) -> _Kept | None:
        with self._lock:
            found = self._open.get(path)
            if found is None or found.opened.identity != identity:
                return None
            self._open.move_to_end(path)
            found.users += 1
            return found

    def _keep(self, path: Path, fresh: _Kept) -> _Kept:
        """Keep a slide just opened; close what is one too many, and the former file of this name."""
        with self._lock:
            idle = [self._retire(path)]
            self._open[path] = fresh
            fresh.users += 1
            while len(self._open) > self._limit:
                idle.append(self._retire(next(iter(self._open))))
        for slide in filter(None, idle):
            slide.opened.close()
        return fresh

    def _give_back(self, slide: _Kept) -> None:
        with self._lock:
            slide.users -= 1
            idle = slide.retired and not slide.users
        if idle:
            slide.opened.close()

    def _retire(self, path: Path) -> _Kept | None:
        """Take a slide out (the lock is held); returned where nobody uses it, so that it can be closed."""
        slide = self._open.pop(path, None)
        if slide is None:
            return None
        slide.retired = True
        return None if slide.users else slide
