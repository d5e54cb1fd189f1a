"""What the report is made from, as the run's steps left it: read and checked, nothing written."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float64

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json, read_table
from wsi_kd.core.provenance import check_schema
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.features.store import read_header
from wsi_kd.report.record import ModelRun
from wsi_kd.report.slide_quality import SlideQuality, slide_quality
from wsi_kd.report.timings import STEPS, JobTiming, job_timing
from wsi_kd.steps.scored_models import ModelPredictions, read_model
from wsi_kd.steps.status import read_status, unnamed


class RunInputs(NamedTuple):
    """All of a run that the page shows but the slides themselves."""

    metrics: Metrics
    slides: tuple[SlideQuality, ...]
    fingerprints: Mapping[str, str]
    """By slide id: of the file that its features were made of, where it is known."""
    models: tuple[ModelRun, ...]
    headers: tuple[dict[str, Any], ...]
    """model.json of each of `models`."""
    predictions: tuple[ModelPredictions, ...]
    """Of each of `models`."""
    jobs: tuple[JobTiming, ...]


def read_run(results_dir: Path, manifest: Manifest) -> RunInputs:
    """Read a finished run; of feature files their headers alone, of jobs what Snakemake measured.

    Raises:
        BadInput: metrics, statuses, predictions or histories that are missing, damaged or of another version.
    """
    metrics = _read_metrics(results_dir / "evaluation" / "metrics.json")
    found = tuple(_read_models(results_dir, metrics))
    models, predictions = tuple(run for run, _ in found), tuple(predicted for _, predicted in found)
    headers = tuple(_model_header(model_folder(results_dir, "models", model=model)) for model in models)
    rows = {row.slide_id: row for row in manifest.rows}
    slides, fingerprints = [], {}
    for row in read_status(results_dir / "status.csv"):
        header = _feature_header(results_dir / "features" / f"{row.slide_id}.h5")
        reason = unnamed(row.reason, rows[row.slide_id]) if row.slide_id in rows else row.reason
        slides.append(slide_quality(row._replace(reason=reason), header))
        if header is not None and header.get("fingerprint"):
            fingerprints[row.slide_id] = str(header["fingerprint"])
    jobs = tuple(_read_jobs(results_dir / "benchmarks"))
    return RunInputs(metrics, tuple(slides), fingerprints, models, headers, predictions, jobs)


def model_folder(results_dir: Path, kind: str, *, model: ModelRun) -> Path:
    """Name the folder of one model's weights (kind models) or scores (kind predictions)."""
    return results_dir / kind / model.recipe / f"seed{model.seed}" / f"fold{model.fold}"


def _read_metrics(path: Path) -> Metrics:
    remake = "wsi-kd evaluate"
    metrics = read_json(path, remake=remake)
    check_schema(metrics, "metrics", where=path, remake=remake)
    return cast("Metrics", metrics)


def _read_models(results_dir: Path, metrics: Metrics) -> Iterator[tuple[ModelRun, ModelPredictions]]:
    for recipe, measured in metrics["recipes"].items():
        for model in measured["models"]:
            run = ModelRun(recipe, model["seed"], model["fold"], model["epoch"], history={}, test=())
            predicted = read_model(model_folder(results_dir, "predictions", model=run), metrics["classes"])
            history = _read_history(model_folder(results_dir, "models", model=run) / "history.csv")
            yield run._replace(history=history, test=predicted.test_rows), predicted


def _read_history(path: Path) -> dict[str, Float64[np.ndarray, "epochs"]]:
    """Return the columns that hold numbers; an empty cell is NaN."""
    table = read_table(path, remake="wsi-kd train")
    columns = {name: [row[name] for row in table] for name in (table[0] if table else ())}
    return {name: _numbers(cells) for name, cells in columns.items() if all(map(_is_number, cells))}


def _numbers(cells: Sequence[str]) -> Float64[np.ndarray, "epochs"]:
    return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _model_header(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    header = read_json(path, remake="wsi-kd train")
    check_schema(header, "model", where=path, remake="wsi-kd train")
    return header


def _feature_header(path: Path) -> dict[str, Any] | None:
    """Return the header, None where the run's feature files were removed to make room."""
    return read_header(path) if path.is_file() else None


def _read_jobs(folder: Path) -> Iterator[JobTiming]:
    """Read what Snakemake measured: `<step>.tsv`, or of several jobs `<step>/<job>.tsv`."""
    for step in STEPS:
        single = folder / f"{step}.tsv"
        files = [single] if single.is_file() else sorted((folder / step).glob("*.tsv"))
        for path in files:
            job = "" if path is single else path.stem
            yield from (job_timing(step, job, row) for row in _read_benchmark(path))


def _read_benchmark(path: Path) -> list[dict[str, str]]:
    try:
        heading, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not readable ({error}); remove it, the page then does without") from None
    names = heading.split("\t")
    return [dict(zip(names, line.split("\t"), strict=False)) for line in lines if line.strip()]
