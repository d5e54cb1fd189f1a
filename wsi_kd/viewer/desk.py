"""What is answered about single slides: geometry, tiles, scores, outlines, images of the glass."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from wsi_kd.core.errors import BadInput, SlideProblem, WsiKdError
from wsi_kd.core.records import SlideStatus
from wsi_kd.inference.tables import read_tiles_csv
from wsi_kd.slides.frame import SlideFrame
from wsi_kd.tissue.annotations import read_drawing, write_drawing
from wsi_kd.viewer.answers import finite, scores_answer
from wsi_kd.viewer.deepzoom import OVERLAP_PX, TILE_PX
from wsi_kd.viewer.handles import Handles
from wsi_kd.viewer.nursery import Nursery, RemoteSlide
from wsi_kd.viewer.opened import Opened, OpenSlide, SlideFacts, Tile, told
from wsi_kd.viewer.record import Viewed, ViewedSlide
from wsi_kd.viewer.tile_cache import TileCache

NO_FILE: Final = (
    "where this slide's file lies is not known: a run does not record it; start the viewer with "
    "--manifest slides.csv, or with --slides-dir and the slides' folder"
)
MAX_TABLE_BYTES: Final = 2**28
"""Of one slide's tile scores: some two million tiles, twenty times the largest slides."""


class NotThere(WsiKdError):
    """What was asked for does not exist."""


class Desk:
    """Answers about the slides of one run; threads share it."""

    def __init__(self, viewed: Viewed, *, show_labels: bool, nursery: Nursery | None = None) -> None:
        """Open nothing yet.

        Args:
            viewed: what is shown.
            show_labels: whether label and macro images are given.
            nursery: starts a process for each slide that is read; None: this process reads them, and dies
                of what kills a reader.
        """
        self.viewed = viewed
        self.show_labels = show_labels
        self.handles = Handles(_opener(viewed, nursery))
        self.cache = TileCache()

    def slide(self, index: int) -> dict[str, Any]:
        """Tell geometry and what there is of a slide; one that cannot be read says why."""
        slide = self._slide(index)
        answer: dict[str, Any] = {"slide_id": slide.slide_id, "models": _tested_first(slide)}
        try:
            with self._lend(slide) as opened:
                return {**answer, "readable": True, "why_not": "", **self._geometry(slide, opened)}
        except (NotThere, SlideProblem) as problem:
            name = f"{slide.path.name}: " if slide.path else ""
            return {**answer, "readable": False, "why_not": f"{name}{told(problem, slide.path)}"}

    def tile(self, index: int, *, level: int, column: int, row: int) -> Tile:
        """Read one DeepZoom tile; a damaged one is gray.

        Raises:
            NotThere: no such slide or tile.
            SlideProblem: the slide itself cannot be opened.
        """
        slide = self._slide(index)
        with self._lend(slide) as opened:
            if not opened.facts.zoom.has(level, column=column, row=row):
                raise NotThere(f"no tile {column}_{row} in level {level}")
            key = (index, opened.identity, level, column, row)
            kept = self.cache.get(key)
            if kept is not None:
                return Tile(kept, "")
            tile = opened.tile(level=level, column=column, row=row)
            if not tile.damage:
                self.cache.put(key, tile.jpeg)
            return tile

    def scores(self, index: int, model: str) -> dict[str, Any]:
        """Give a slide's tiles as one model scored them.

        Raises:
            NotThere: no such slide, or the model has no tile scores of it.
            SlideProblem: the slide cannot be opened, so that nobody knows where its bounds begin.
            BadInput: the table is damaged, of another version, or far too large.
        """
        slide = self._slide(index)
        if model not in slide.tiles:
            raise NotThere(f"no tile scores of {slide.slide_id}: the model tested other slides, or none")
        table = slide.tiles[model]
        if not self.is_of_run(table):
            raise NotThere(f"{table.name} is a link that leads out of the run")
        if table.is_file() and table.stat().st_size > MAX_TABLE_BYTES:
            raise BadInput(
                f"{table.name}: {table.stat().st_size:,} bytes; the viewer reads up to {MAX_TABLE_BYTES:,}"
            )
        with self._lend(slide) as opened:
            origin = opened.facts.frame.origin
        try:
            tiles = read_tiles_csv(table)
        except BadInput as error:
            raise BadInput(told(error, table)) from None
        return scores_answer(tiles, origin=origin, classes=self.viewed.classes)

    def outlines(self, index: int) -> dict[str, Any]:
        """Give a slide's annotations as GeoJSON, counted from the corner of its bounds.

        Raises:
            NotThere: no such slide, or the manifest names no annotation of it.
            SlideProblem: the slide cannot be opened.
            BadInput: the annotation file cannot be read.
        """
        slide = self._slide(index)
        if slide.annotation is None:
            raise NotThere(f"the manifest names no annotation of {slide.slide_id}")
        with self._lend(slide) as opened:
            frame = slide_frame(opened.facts, slide.slide_mpp)
        if not frame.mpp_x:  # then no place on the glass is known either
            frame = frame._replace(mpp_x=1.0, mpp_y=1.0, center_nm=None)
        try:
            drawing = read_drawing(slide.annotation, frame=frame)
        except BadInput as error:
            raise BadInput(told(error, slide.annotation)) from None
        written = write_drawing(drawing.annotations, file_format="geojson", frame=frame)
        geojson: dict[str, Any] = json.loads(written.text)
        return geojson

    def associated(self, index: int, name: str) -> bytes:
        """Give label, macro or thumbnail as JPEG, where the viewer was told to show them.

        Raises:
            NotThere: the viewer was not told so, or there is no such image.
            SlideProblem: the slide or the image cannot be read.
        """
        slide = self._slide(index)
        if not self.show_labels:
            raise NotThere("images of the glass are not shown; they may name a patient (--show-labels)")
        with self._lend(slide) as opened:
            if name not in opened.associated_names():
                raise NotThere(f"{slide.slide_id} holds no such image")
            return opened.associated(name)

    @contextmanager
    def lend(self, index: int) -> Iterator[Opened]:
        """Lend the open slide itself, as `Handles.lend` does."""
        with self._lend(self._slide(index)) as opened:
            yield opened

    def is_of_run(self, path: Path) -> bool:
        """Tell whether a file lies in the run's folder and no link leads out of it."""
        root = self.viewed.root
        return root is not None and path.resolve().is_relative_to(root.resolve())

    def close(self) -> None:
        """Close every slide."""
        self.handles.close()

    def _slide(self, index: int) -> ViewedSlide:
        if not 0 <= index < len(self.viewed.slides):
            raise NotThere(f"no slide {index}: there are {len(self.viewed.slides)}")
        return self.viewed.slides[index]

    @contextmanager
    def _lend(self, slide: ViewedSlide) -> Iterator[Opened]:
        if slide.path is None:
            raise NotThere(NO_FILE)
        if slide.status == SlideStatus.READER_CRASHED:  # this process would go down with it
            raise SlideProblem(SlideStatus.READER_CRASHED, slide.reason)
        with self.handles.lend(slide.path) as opened:
            yield opened

    def _geometry(self, slide: ViewedSlide, opened: Opened) -> dict[str, Any]:
        names = opened.associated_names() if self.show_labels else ()
        facts = opened.facts
        frame = slide_frame(facts, slide.slide_mpp)
        return {
            "width": facts.width_level0_px,
            "height": facts.height_level0_px,
            "mpp": finite(frame.mpp) or None,
            "tile_size": TILE_PX,
            "overlap": OVERLAP_PX,
            "min_level": facts.zoom.min_level,
            "max_level": facts.zoom.full_level,
            "full_level": facts.zoom.full_level,
            "annotations": slide.annotation is not None,
            "label_image": "label" in names,
            **({"associated": list(names)} if self.show_labels else {}),
        }


def slide_frame(facts: SlideFacts, slide_mpp: float | None) -> SlideFrame:
    """Return a slide's geometry; without any resolution its um/px are 0.

    Args:
        facts: of the open slide.
        slide_mpp: the resolution that the run used, in um/px; None: what the metadata says.
    """
    return facts.frame._replace(mpp_x=slide_mpp, mpp_y=slide_mpp) if slide_mpp else facts.frame


def _opener(viewed: Viewed, nursery: Nursery | None) -> Callable[[Path], Opened]:
    background, color = viewed.background, viewed.color
    if nursery is None:
        return partial(OpenSlide, background=background, color=color)
    return partial(RemoteSlide, nursery=nursery, background=background, color=color)


def _tested_first(slide: ViewedSlide) -> list[str]:
    """Order the models that have tile scores: those that tested the slide first."""
    tested = {answer.model for answer in slide.answers if answer.part == "test"}
    return sorted(slide.tiles, key=lambda model: model not in tested)
