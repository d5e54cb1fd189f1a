"""Step infer, watching: slides are scored as a scanner drops them into a folder, until it is stopped."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.drop_folder import DropFolder
from wsi_kd.bags.manifest import SlideRow, bare_row
from wsi_kd.bags.slide_files import same_name_key, slide_id_fault
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.messages import warn
from wsi_kd.core.records import StatusRow
from wsi_kd.core.run_lock import only_writer
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.drawings import drawing_faults
from wsi_kd.steps.infer import slide_job
from wsi_kd.steps.infer_batch import OnSlide, ignore, kept_record, weights_of_models
from wsi_kd.steps.infer_model import Inference
from wsi_kd.steps.infer_result import PREDICTION, clear_outputs, read_prediction, status_of
from wsi_kd.steps.infer_table import write_inferred

TABLE_SECONDS = 60.0
"""The table is new at least so often while slides come in; making it reads every prediction.json."""


class Watch(NamedTuple):
    """Which folder is followed, and how patiently."""

    folder: Path
    recursive: bool = False
    settle_seconds: float = 60.0
    """A slide whose files have not changed for so long has come in whole, if it opens."""
    poll_seconds: float = 10.0
    slide_mpp: float | None = None
    """um/px of all slides; goes before their metadata."""


def sleep(seconds: float) -> bool:
    """Wait; go on for ever."""
    time.sleep(seconds)
    return True


def run_watch(
    watch: Watch,
    inference: Inference,
    *,
    out_dir: Path,
    on_slide: OnSlide = ignore,
    on_kept: OnSlide = ignore,
    pause: Callable[[float], bool] = sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Score each slide of a folder into `out_dir/<slide_id>/` once it has come in whole, and keep the table.

    Slides that have their answer already, by these models and from the same file, are not scored again: the
    command can be killed and started anew. A slide that failed has its answer too, and is tried again when
    its file changes. What stops the command (Ctrl-C, SIGTERM) passes through; the slide in work leaves no
    file.

    Args:
        watch: which folder.
        inference: models, encoder and settings.
        out_dir: where to write.
        on_slide: called with each slide's status as soon as it is written.
        on_kept: called with the status of each slide that had its answer.
        pause: waits so many seconds between two looks; False ends the watch.
        clock: time in seconds that only runs forward.

    Raises:
        BadInput: the folder does not exist.
        Busy: another watch writes to `out_dir`.
        RunFailed: a file could not be written.
    """
    drop = DropFolder(watch.folder, recursive=watch.recursive, settle_seconds=watch.settle_seconds)
    drop.refuse_absent()  # before anything is made in its name
    desk = _Desk(watch, inference, out_dir, drop, {})
    with only_writer(out_dir):
        try:
            while True:
                _look(desk, on_slide=on_slide, on_kept=on_kept, clock=clock)
                if not pause(watch.poll_seconds):
                    return
        finally:
            desk.write_table()


def _look(desk: "_Desk", *, on_slide: OnSlide, on_kept: OnSlide, clock: Callable[[], float]) -> None:
    """Score what has come in whole since the last look."""
    written, news = time.monotonic(), 0
    for path in desk.drop.still(clock()):
        ended = desk.take(path, now=clock(), on_kept=on_kept)
        if ended is None:
            continue
        on_slide(ended)
        news += 1
        if time.monotonic() - written > TABLE_SECONDS:
            desk.write_table()
            written, news = time.monotonic(), 0
    if news:
        desk.write_table()


class _Desk(NamedTuple):
    """Takes the slides that have come in, one at a time."""

    watch: Watch
    inference: Inference
    out_dir: Path
    drop: DropFolder
    owners: dict[str, Path]
    """Which file has a slide id; ids that differ only in case would share a folder on some disks."""

    def take(self, path: Path, *, now: float, on_kept: OnSlide) -> StatusRow | None:
        """Score a slide; None where there is nothing to do, not yet, or only to tell what is in the way."""
        row = bare_row(path, self.watch.slide_mpp)
        try:
            self._check(row)
            return self._score(row, now=now, on_kept=on_kept)
        except BadInput as error:
            warn(f"{path}: passed over until it changes: {error}", slide_id=row.slide_id)
            return None

    def write_table(self) -> None:
        """Write the table of all that these models have answered."""
        write_inferred(self.out_dir, weights=weights_of_models(self.inference.models))

    def _score(self, row: SlideRow, *, now: float, on_kept: OnSlide) -> StatusRow | None:
        folder = self.out_dir / row.slide_id
        job = slide_job(row, self.inference)
        done = kept_record(folder, job)
        if done is not None:
            on_kept(status_of(done))
            return None
        if not _opens(row, self.inference) and self.drop.wait_more(row.path, now):
            return None
        clear_outputs(folder)
        return job.make().write(folder)

    def _check(self, row: SlideRow) -> None:
        fault = slide_id_fault(row.slide_id)
        if fault:
            raise BadInput(f"the slide id '{row.slide_id}' {fault}; rename the file")
        key = same_name_key(row.slide_id)
        owner = self.owners.get(key) or self._answered(row)
        if owner != row.path and owner.exists():
            raise BadInput(f"{owner} has the same slide id '{row.slide_id}'; rename one of them")
        self.owners[key] = row.path
        faults = drawing_faults([row], self.inference.settings, negative_label=None)
        if faults:
            raise BadInput("; ".join(faults))

    def _answered(self, row: SlideRow) -> Path:
        """Return the file beside the slide's that its folder holds the answer of, from before a restart."""
        try:
            record = read_prediction(self.out_dir / row.slide_id / PREDICTION)
        except BadInput:
            return row.path
        return row.path.with_name(record["slide"].get("slide_file") or row.path.name)


def _opens(row: SlideRow, inference: Inference) -> bool:
    try:
        with open_slide(row.path, background=inference.settings.slides.background):
            return True
    except SlideProblem:
        return False
