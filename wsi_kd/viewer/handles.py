"""Open slides: a bounded number of them, shared by threads, the least recently used closed first."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final
from weakref import WeakValueDictionary

from wsi_kd.core.errors import WsiKdError
from wsi_kd.slides.icc import Color, Recolor, recolor
from wsi_kd.slides.identity import FileIdentity, identity_of
from wsi_kd.slides.protocol import Background, SlideReader, unreadable
from wsi_kd.slides.reader import open_slide
from wsi_kd.viewer.deepzoom import DeepZoom, deep_zoom

MAX_OPEN: Final = 8


class OpenSlide:
    """One open slide and its pyramid; threads share it, for readers may be shared."""

    def __init__(self, path: Path, *, background: Background, color: Color) -> None:
        self.identity: FileIdentity = identity_of(path)
        self.reader: SlideReader = open_slide(path, background=background)
        try:
            self.zoom: DeepZoom = deep_zoom(self.reader)
            self.recolor: Recolor | None = recolor(self.reader, color)
        except BaseException:
            self.reader.close()
            raise
        self.users = 0
        self.retired = False


class _Opening:
    """Held while a slide is opened; dropped when no thread is at it."""

    def __init__(self) -> None:
        self.lock = Lock()


class Handles:
    """Lends open slides by path; at most `limit` stay open beside those in use."""

    def __init__(self, *, background: Background, color: Color, limit: int = MAX_OPEN) -> None:
        self._background: Background = background
        self._color: Color = color
        self._limit = limit
        self._open: OrderedDict[Path, OpenSlide] = OrderedDict()
        self._lock = Lock()
        self._opening: WeakValueDictionary[Path, _Opening] = WeakValueDictionary()

    @contextmanager
    def lend(self, path: Path) -> Iterator[OpenSlide]:
        """Lend an open slide; one whose file was replaced since is opened anew.

        Raises:
            SlideProblem: unreadable, as `open_slide` says it.
        """
        slide = self._take(path)
        try:
            yield slide
        finally:
            with self._lock:
                slide.users -= 1
                idle = slide.retired and not slide.users
            if idle:
                slide.reader.close()

    def close(self) -> None:
        """Close every slide that nobody uses; those in use close when they are given back."""
        with self._lock:
            idle = [slide for path in list(self._open) if (slide := self._retire(path))]
        for slide in idle:
            slide.reader.close()

    def _take(self, path: Path) -> OpenSlide:
        """Return the open slide, or open it; threads that ask for the same one wait for the first."""
        identity = identity_of(path)
        with self._lock:
            opening = self._opening.setdefault(path, _Opening())
        with opening.lock:
            found = self._found(path, identity)
            if found is not None:
                return found
            return self._keep(path, self._fresh(path))

    def _fresh(self, path: Path) -> OpenSlide:
        try:
            return OpenSlide(path, background=self._background, color=self._color)
        except (WsiKdError, MemoryError):
            raise
        except Exception as error:  # a damaged slide may make its reader raise anything
            raise unreadable(f"opening failed ({type(error).__name__}); copy or export it again") from None

    def _found(self, path: Path, identity: FileIdentity) -> OpenSlide | None:
        with self._lock:
            found = self._open.get(path)
            if found is None or found.identity != identity:
                return None
            self._open.move_to_end(path)
            found.users += 1
            return found

    def _keep(self, path: Path, fresh: OpenSlide) -> OpenSlide:
        """Keep a slide just opened; close what is one too many, and the former file of this name."""
        with self._lock:
            idle = [self._retire(path)]
            self._open[path] = fresh
            fresh.users += 1
            while len(self._open) > self._limit:
                idle.append(self._retire(next(iter(self._open))))
        for slide in filter(None, idle):
            slide.reader.close()
        return fresh

    def _retire(self, path: Path) -> OpenSlide | None:
        """Take a slide out (the lock is held); returned where nobody uses it, so that it can be closed."""
        slide = self._open.pop(path, None)
        if slide is None:
            return None
        slide.retired = True
        return None if slide.users else slide
