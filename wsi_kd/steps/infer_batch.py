"""Several slides one after the other: what is done is kept where asked for, and a table tells of all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.core.progress import progress
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.inference.prediction_schema import PredictionRecord
from wsi_kd.steps.infer_result import PREDICTION, STEP, SlideResult, clear_outputs, read_prediction, status_of
from wsi_kd.steps.infer_table import write_inferred
from wsi_kd.training.checkpoint import LoadedModel

OnSlide = Callable[[StatusRow], None]


def ignore(_: StatusRow) -> None:
    """Tell nobody."""


def unknown() -> str:
    """Return the hash of what is never kept."""
    return ""


class Job(NamedTuple):
    """One slide that is to be scored."""

    slide_id: str
    make: Callable[[], SlideResult]
    inputs_hash: Callable[[], str] = unknown
    """Of all that its answer follows from; empty where that cannot be told."""


class Batch(NamedTuple):
    """Where the slides of one call are written, and who is told."""

    out_dir: Path
    in_folders: bool
    """Each slide in `out_dir/<slide_id>/`, with a table; else the only slide in `out_dir` itself."""
    resume: bool = False
    """Keep the slides that are scored already, by the same models and from the same file."""
    on_slide: OnSlide = ignore
    """Called with each slide's status as soon as it is written."""
    on_kept: OnSlide = ignore
    """Called with the status of each slide that is kept."""

    def folder(self, slide_id: str) -> Path:
        """Folder of a slide's files."""
        return self.out_dir / slide_id if self.in_folders else self.out_dir


def run_jobs(jobs: Sequence[Job], batch: Batch, *, models: Sequence[LoadedModel]) -> list[StatusRow]:
    """Score every slide, write its files, and write the table, however the work ends.

    A slide that failed is not kept: what it failed of may be mended.

    Raises:
        BadInput: what a job raises; the slides before it are written.
        RunFailed: a file could not be written.
    """
    statuses = []
    try:
        with progress(STEP, total=len(jobs), unit="slides") as advance:
            for job in jobs:
                folder = batch.folder(job.slide_id)
                done = kept_record(folder, job) if batch.resume else None
                if done is not None and done["status"] == SlideStatus.OK:
                    statuses.append(status_of(done))
                    batch.on_kept(statuses[-1])
                else:
                    clear_outputs(folder)
                    statuses.append(job.make().write(folder))
                    batch.on_slide(statuses[-1])
                advance()
    finally:
        if batch.in_folders:
            write_inferred(batch.out_dir, weights=weights_of_models(models))
    return statuses


def kept_record(folder: Path, job: Job) -> PredictionRecord | None:
    """Return a slide's former answer if it still follows from the same slide and models, files and all."""
    path = folder / PREDICTION
    if not path.is_file():
        return None
    try:
        record = read_prediction(path)
    except BadInput:
        return None
    if not record["inputs_hash"] or record["inputs_hash"] != job.inputs_hash():
        return None
    whole = all(
        (folder / name).is_file() and file_hash(folder / name) == sha256
        for name, sha256 in record["files"].items()
    )
    return record if whole else None


def weights_of_models(models: Sequence[LoadedModel]) -> list[str]:
    """Return what tells the models apart in prediction.json."""
    return [str(loaded.header["weights_sha256"]) for loaded in models]


def as_folders(model_dir: Path | Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders of one model or of an ensemble."""
    return (model_dir,) if isinstance(model_dir, Path) else tuple(model_dir)
