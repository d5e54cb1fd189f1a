"""Step predict: one training's models -> scores of val and test slides, and of the test slides' tiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, read_features
from wsi_kd.inference.calls import positive_probability, student_call, teacher_call
from wsi_kd.inference.predict import SlidePrediction
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.tables import PredictionRow, tile_table, write_predictions, write_tiles_csv
from wsi_kd.settings.all import Settings
from wsi_kd.steps.scored_models import LAST_FOLDER, has_annotations, manifest_rows
from wsi_kd.steps.split import read_splits
from wsi_kd.training.checkpoint import LoadedModel, load_model

MODEL_FACTS = (
    "recipe",
    "seed",
    "fold",
    "epoch",
    "thresholds",
    "threshold_rule",
    "threshold_split",
    "weights_sha256",
)
"""Members of a checkpoint's header that a prediction table repeats."""


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
    are written only where the manifest names annotations: nothing but tile labels asks for them.

    Raises:
        BadInput: a model of another fold, other classes or other features; damaged or missing files.
        RunFailed: a file could not be written.
    """
    slides = _scored_slides(manifest, splits_path, fold=fold)
    for name, folder in (("last", out_dir / LAST_FOLDER), ("model", out_dir)):
        loaded = load_model(model_dir, name=name)
        _check_model(loaded.header, model_dir, classes=manifest.classes, fold=fold)
        with_tiles = name == "model" or has_annotations(manifest)
        _predict(
            loaded,
            slides,
            features_dir=features_dir,
            out_dir=folder,
            with_tiles=with_tiles,
            settings=settings,
        )


def _predict(
    loaded: LoadedModel,
    slides: Sequence[tuple[SlideRow, str]],
    *,
    features_dir: Path,
    out_dir: Path,
    with_tiles: bool,
    settings: Settings,
) -> None:
    device = choose_device(settings.predict.device)
    loaded.model.to(device)
    made_with = {"predict": settings.predict.model_dump(mode="json")}
    facts = {key: loaded.header[key] for key in MODEL_FACTS}
    rows = []
    for row, part in slides:
        slide = read_features(features_dir / f"{row.slide_id}.h5")
        prediction = predict_slide(loaded, slide, device=device)
        rows.append(_prediction_row(row, part, prediction, header=loaded.header))
        if part == "test" and with_tiles:
            tiles_path = out_dir / "tiles" / f"{row.slide_id}.csv"
            _write_tiles(tiles_path, slide, prediction, header={**stamp("tile_scores", made_with), **facts})
    header = {**stamp("predictions", made_with), **facts}
    write_predictions(out_dir / "predictions.csv", rows, classes=loaded.header["classes"], header=header)


def _scored_slides(manifest: Manifest, splits_path: Path, *, fold: int) -> list[tuple[SlideRow, str]]:
    folds = read_splits(splits_path).folds
    if not 0 <= fold < len(folds):
        raise BadInput(f"{splits_path}: no fold {fold}; it holds folds 0 to {len(folds) - 1}")
    parts = (("val", folds[fold].val), ("test", folds[fold].test))
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
    probabilities = prediction.teacher_probability
    student = prediction.student_probability
    return PredictionRow(
        slide_id=row.slide_id,
        case_id=row.case_id,
        site=row.site,
        label=row.label,
        part=part,
        teacher_probability=positive_probability(probabilities),
        student_probability=student,
        teacher_call=teacher_call(probabilities, classes=classes, threshold=thresholds["teacher"]),
        student_call=""
        if student is None
        else student_call(student, classes=classes, threshold=thresholds["student"]),
        threshold_teacher=thresholds["teacher"],
        threshold_student=None if student is None else thresholds["student"],
        class_probabilities=tuple(probabilities.tolist()),
    )


def _write_tiles(
    path: Path, slide: FeatureFile, prediction: SlidePrediction, *, header: Mapping[str, Any]
) -> None:
    tiles = tile_table(
        prediction,
        coords=slide.coords,
        tile_level0_px=float(slide.header["tile_level0_px"]),
        tile_labels=slide.tile_labels,
    )
    write_tiles_csv(path, tiles, header={**header, "slide_id": slide.slide_id})
