"""Step predict: one training's models -> scores of val and test slides, and of the test slides' tiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, read_features
from wsi_kd.inference.calls import CALL_FACTS, slide_call
from wsi_kd.inference.likeness import is_out_of_distribution, limit_of
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.slide_prediction import SLIDE_SCORES, SlidePrediction, slide_scores
from wsi_kd.inference.tables import BINARY, PredictionRow, tile_table, write_predictions, write_tiles_csv
from wsi_kd.settings.all import Settings
from wsi_kd.steps.scored_models import LAST_FOLDER, has_annotations, manifest_rows
from wsi_kd.steps.split import check_seen, read_fold
from wsi_kd.training.checkpoint import LoadedModel, load_model

MODEL_FACTS = (
    "recipe",
    "seed",
    "fold",
    "epoch",
    *CALL_FACTS,
)
"""Members of a checkpoint's header that a prediction table repeats."""


class _Job(NamedTuple):
    """One model and where its scores go."""

    loaded: LoadedModel
    out_dir: Path
    with_tiles: bool
    facts: dict[str, Any]
    made_with: dict[str, Any]


def run_predict(
    manifest: Manifest,
    *,
    features_dir: Path,
    splits_path: Path,
    model_dir: Path,
    fold: int,
    out_dir: Path,
    settings: Settings,
) -> None:
    """Write `predictions.csv` (val and test slides) and `tiles/<slide_id>.csv` (test slides) to `out_dir`.

    The same of the last epoch's model goes to the folder `last` below it: it is reported, not used. Its tiles
    are written only where the manifest names annotations: nothing but tile labels asks for them. Every
    feature file is read once, for both models.

    Raises:
        BadInput: a model of another fold or split, other classes or other features; damaged or missing files.
        RunFailed: a file could not be written.
    """
    parts = read_fold(splits_path, fold)
    slides = scored_slides(manifest, parts)
    device = choose_device(settings.predict.device)
    made_with = {"predict": settings.predict.model_dump(mode="json")}
    jobs = []
    for name, folder in (("last", out_dir / LAST_FOLDER), ("model", out_dir)):
        loaded = load_model(model_dir, name=name)
        _check_model(loaded.header, model_dir, classes=manifest.classes, fold=fold)
        check_seen(loaded.header, parts, where=model_dir)
        loaded.model.to(device)
        with_tiles = name == "model" or has_annotations(manifest)
        facts = {key: loaded.header[key] for key in MODEL_FACTS}
        jobs.append(_Job(loaded, folder, with_tiles=with_tiles, facts=facts, made_with=made_with))
    rows: list[list[PredictionRow]] = [[] for _ in jobs]
    with progress("predict", total=len(slides), unit="slides") as advance:
        for row, part in slides:
            slide = read_features(features_dir / f"{row.slide_id}.h5")
            for job, scored in zip(jobs, rows, strict=True):
                scored.append(_predict(job, slide, row=row, part=part, device=device))
            advance(slide_id=row.slide_id, note=part)
    for job, scored in zip(jobs, rows, strict=True):
        header = {**stamp("predictions", made_with), **job.facts}
        write_predictions(job.out_dir / "predictions.csv", scored, classes=manifest.classes, header=header)


def _predict(
    job: _Job, slide: FeatureFile, *, row: SlideRow, part: str, device: torch.device
) -> PredictionRow:
    prediction = predict_slide(job.loaded, slide, device=device)
    if part == "test" and job.with_tiles:
        _write_tiles(job, slide, prediction)
    return _prediction_row(row, part, prediction, header=job.loaded.header)


def scored_slides(manifest: Manifest, fold: Fold) -> list[tuple[SlideRow, str]]:
    """Return the slides of a fold that its models score, with their part (val or test).

    Raises:
        BadInput: slides that the manifest does not hold.
    """
    parts = (("val", fold.val), ("test", fold.test))
    return [(row, part) for part, slide_ids in parts for row in manifest_rows(manifest, slide_ids)]


def _check_model(header: Mapping[str, Any], model_dir: Path, *, classes: Sequence[str], fold: int) -> None:
    if header["fold"] != fold:
        raise BadInput(
            f"{model_dir}: trained on fold {header['fold']}, asked to predict fold {fold}: "
            f"test slides would leak; give the model of fold {fold}"
        )
    if list(header["classes"]) != list(classes):
        raise BadInput(
            f"{model_dir}: trained on the classes {list(header['classes'])}, "
            f"the manifest has {list(classes)}; train anew with: wsi-kd train"
        )


def _prediction_row(
    row: SlideRow, part: str, prediction: SlidePrediction, *, header: Mapping[str, Any]
) -> PredictionRow:
    classes, thresholds = header["classes"], header["thresholds"]
    teacher, student = prediction.teacher_probability, prediction.student
    scored = {**dict.fromkeys(SLIDE_SCORES), **slide_scores(prediction)}
    by_class: dict[str, Any] = {}
    if student is not None and len(classes) > BINARY:
        by_class = {
            "student_class_probabilities": tuple(student.deployed.tolist()),
            "student_max_class_probabilities": tuple(student.by_max.tolist()),
            "student_topk_class_probabilities": tuple(student.by_topk.tolist()),
        }
    fields: dict[str, Any] = {
        **{f"{score}_probability": value for score, value in scored.items()},
        **{f"threshold_{score}": thresholds[score] for score in scored},
    }
    return PredictionRow(
        slide_id=row.slide_id,
        case_id=row.case_id,
        site=row.site,
        label=row.label,
        part=part,
        teacher_call=slide_call(teacher, classes=classes, threshold=thresholds["teacher"]),
        student_call=""
        if student is None
        else slide_call(student.deployed, classes=classes, threshold=thresholds["student"]),
        feature_distance=prediction.feature_distance,
        out_of_distribution=is_out_of_distribution(prediction.feature_distance, limit_of(header)),
        class_probabilities=tuple(teacher.tolist()),
        **fields,
        **by_class,
    )


def _write_tiles(job: _Job, slide: FeatureFile, prediction: SlidePrediction) -> None:
    tiles = tile_table(
        prediction,
        coords=slide.coords,
        tile_level0_px=float(slide.header["tile_level0_px"]),
        tile_labels=slide.tile_labels,
    )
    header = {**stamp("tile_scores", job.made_with), **job.facts, "slide_id": slide.slide_id}
    path = job.out_dir / "tiles" / f"{slide.slide_id}.csv"
    write_tiles_csv(path, tiles, classes=job.loaded.header["classes"], header=header)
