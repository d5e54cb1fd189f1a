"""What the predict step wrote, read and checked for evaluate: arrays per model that the metrics take."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import TileLabels
from wsi_kd.evaluation.froc import SlideDetections, detect_all
from wsi_kd.evaluation.instance_measures import attention_evidence
from wsi_kd.evaluation.localization import TileScores
from wsi_kd.evaluation.slide_metrics import BINARY, SlideScores
from wsi_kd.inference.attention import attention_times_tiles
from wsi_kd.inference.tables import (
    PredictionRow,
    PredictionTable,
    TileTable,
    read_predictions,
    read_tiles_csv,
)

REMAKE = "wsi-kd predict"
LAST_FOLDER = "last"
"""Below a model's predictions: those of its training's last epoch."""


class ModelPredictions(NamedTuple):
    """What the predict step wrote for one model; its tiles stay on the disk."""

    folder: Path
    table: PredictionTable
    test_rows: tuple[PredictionRow, ...]


class ModelTiles(NamedTuple):
    """The tiles of one model's test slides that have a known label: all that is kept in memory."""

    scores: dict[str, Float64[np.ndarray, "tiles"]]
    """By tile score: attention (times the number of tiles), attention_evidence (that times the evidence),
    evidence, student where there is one; of more than two classes: of any positive class."""
    labels: Bool[np.ndarray, "tiles"]
    slide: Int64[np.ndarray, "tiles"]
    """Position of the tile's slide in the model's `test_rows`."""
    detections: dict[str, tuple[SlideDetections | None, ...]]
    """By tile score what it detects in each of the `test_rows`; None of a slide without tile labels."""
    no_detections: str
    """Why `detections` is empty."""


def read_model(folder: Path, classes: Sequence[str]) -> ModelPredictions:
    """Read one model's predictions of slides.

    Raises:
        BadInput: missing or damaged files, or other classes than the manifest's.
    """
    table = read_predictions(folder / "predictions.csv")
    if table.header["classes"] != list(classes):
        raise BadInput(
            f"{folder}: predictions of the classes {table.header['classes']}, "
            f"the manifest has {list(classes)}; make them anew with: {REMAKE}"
        )
    test_rows = tuple(row for row in table.rows if row.part == "test")
    return ModelPredictions(folder, table, test_rows)


def check_complete(models: Sequence[ModelPredictions]) -> None:
    """Refuse an empty list, a model given twice, and a seed that lacks a fold which another has.

    Raises:
        BadInput: in these cases.
    """
    if not models:
        raise BadInput(f"no predictions to evaluate; make them with: {REMAKE}")
    keys = [tuple(model.table.header[key] for key in ("recipe", "seed", "fold")) for model in models]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise BadInput(f"predictions of recipe, seed, fold {twice[0]} are given twice; give each model once")
    folds: dict[tuple[str, int], set[int]] = {}
    for recipe, seed, fold in keys:
        folds.setdefault((recipe, seed), set()).add(fold)
    every = set().union(*folds.values())
    for (recipe, seed), found in folds.items():
        if found != every:
            raise BadInput(
                f"recipe {recipe}, seed {seed}: no predictions of fold {min(every - found)}; "
                f"make them with: {REMAKE}"
            )


def check_split(models: Sequence[ModelPredictions], folds: Sequence[Fold]) -> None:
    """Refuse predictions that were made with another split.

    Raises:
        BadInput: naming the model.
    """
    for model in models:
        fold = model.table.header["fold"]
        expected = set(folds[fold].test) if fold < len(folds) else set()
        if {row.slide_id for row in model.test_rows} != expected:
            raise BadInput(
                f"recipe {model.table.header['recipe']}, seed {model.table.header['seed']}, fold {fold}: "
                f"its test slides are not those of splits.csv; make the predictions anew with: {REMAKE}"
            )


def check_truth(models: Sequence[ModelPredictions], manifest: Manifest) -> None:
    """Refuse predictions made with other labels or cases: they would be measured beside a changed cohort.

    Raises:
        BadInput: naming the model, and the first slide with what both say of it.
    """
    facts = {row.slide_id: (row.label, row.case_id) for row in manifest.rows}
    for model in models:
        for row in model.table.rows:
            found, told = (row.label, row.case_id), facts.get(row.slide_id)
            if told is not None and told != found:
                raise BadInput(
                    f"{model.folder}: predictions of {row.slide_id} with label '{found[0]}' and case "
                    f"'{found[1]}', the manifest has '{told[0]}' and '{told[1]}'; after a change of labels "
                    "or cases run anew: wsi-kd split, wsi-kd train, wsi-kd predict"
                )


def manifest_rows(manifest: Manifest, slide_ids: Sequence[str]) -> list[SlideRow]:
    """Return the manifest's rows of these slides, in their order.

    Raises:
        BadInput: slides of the split that the manifest does not hold.
    """
    rows = {row.slide_id: row for row in manifest.rows}
    absent = [slide_id for slide_id in slide_ids if slide_id not in rows]
    if absent:
        raise BadInput(
            f"the split names slides that the manifest does not hold: {listed(absent)}; run: wsi-kd split"
        )
    return [rows[slide_id] for slide_id in slide_ids]


def has_annotations(manifest: Manifest) -> bool:
    """Tell whether any tile can be labeled positive: only an annotation does that (step tile)."""
    return any(row.annotation is not None for row in manifest.rows)


def read_tiles(model: ModelPredictions, *, with_detections: bool) -> ModelTiles:
    """Read the model's tiles, one slide at a time, and keep those with a known label.

    A tile of a negative slide is negative by the definition of a bag, annotated or not. Detections are made
    from all tiles of a slide, known or not, before they are let go.

    Raises:
        BadInput: missing or damaged files.
    """
    kept: dict[str, list[np.ndarray]] = {}
    labels, slides = [], []
    found: dict[str, list[SlideDetections | None]] = {}
    reason = "" if with_detections else "detections are made of the selected models alone"
    for index, row in enumerate(model.test_rows):
        tiles = read_tiles_csv(model.folder / "tiles" / f"{row.slide_id}.csv")
        truth = _truth(row, tiles, negative=model.table.header["classes"][0])
        known = truth >= 0
        scores = _scores_of(tiles)
        for name, values in scores.items():
            kept.setdefault(name, []).append(values[known])
        labels.append(truth[known] == 1)
        slides.append(np.full(int(known.sum()), index, dtype=np.int64))
        if not tiles.tile_level0_px:
            reason = reason or f"{row.slide_id}: its features came without positions or tile sizes"
        if not reason:
            detected = _detected(scores, truth, tiles)
            for name, one in detected.items():
                found.setdefault(name, []).append(one)
    joined = {name: np.concatenate(parts) for name, parts in kept.items()}
    detections = {} if reason else {name: tuple(each) for name, each in found.items()}
    return ModelTiles(joined, np.concatenate(labels), np.concatenate(slides), detections, reason)


def _truth(row: PredictionRow, tiles: TileTable, *, negative: str) -> TileLabels:
    if not row.label:
        return np.full_like(tiles.tile_labels, -1)
    return np.zeros_like(tiles.tile_labels) if row.label == negative else tiles.tile_labels


def _scores_of(tiles: TileTable) -> dict[str, Float64[np.ndarray, "tiles"]]:
    attention, evidence = attention_times_tiles(tiles.attention), tiles.evidence_score
    scores = {
        "attention": attention,
        "attention_evidence": attention_evidence(attention, evidence),
        "evidence": evidence,
    }
    if tiles.student_score is not None:
        scores["student"] = tiles.student_score
    return scores


def _detected(
    scores: dict[str, Float64[np.ndarray, "tiles"]], truth: TileLabels, tiles: TileTable
) -> dict[str, SlideDetections | None]:
    """Detect on all tiles; a score that is no number detects nothing (evaluate says so of its labels)."""
    if not (truth >= 0).any():
        return dict.fromkeys(scores)
    finite = {name: np.where(np.isfinite(values), values, -np.inf) for name, values in scores.items()}
    return {**detect_all(finite, truth, coords=tiles.coords, tile_level0_px=tiles.tile_level0_px)}


def slide_scores(
    model: ModelPredictions, score: str, classes: Sequence[str], *, part: str = "test"
) -> SlideScores:
    """Return one of `SLIDE_SCORES` of the slides of a part (val or test) that have a label."""
    rows = [row for row in model.table.rows if row.part == part and row.label]
    values = np.array([getattr(row, f"{score}_probability") for row in rows], dtype=np.float64)
    threshold = model.table.header["thresholds"][score]
    field = "class_probabilities" if score == "teacher" else f"{score}_class_probabilities"
    probabilities = np.array([getattr(row, field) for row in rows], dtype=np.float64)
    many = len(classes) > BINARY
    return SlideScores(
        seed=model.table.header["seed"],
        fold=model.table.header["fold"],
        slide_ids=tuple(row.slide_id for row in rows),
        case_ids=tuple(row.case_id for row in rows),
        labels=np.array([list(classes).index(row.label) for row in rows], dtype=np.int64),
        scores=values,
        calls=values >= (np.inf if threshold is None else threshold),
        class_probabilities=probabilities.reshape(-1, len(classes)) if many else None,
        threshold=threshold,
    )


def tile_scores(model: ModelPredictions, tiles: ModelTiles, score: str) -> TileScores:
    """Return one of the tile scores that `read_tiles` kept."""
    return TileScores(
        seed=model.table.header["seed"],
        fold=model.table.header["fold"],
        scores=tiles.scores[score],
        labels=tiles.labels,
        slide=tiles.slide,
        case_ids=tuple(row.case_id for row in model.test_rows),
        positive_slides=np.array(
            [row.label != model.table.header["classes"][0] for row in model.test_rows], dtype=bool
        ),
        detections=tiles.detections.get(score, ()),
        no_detections=tiles.no_detections,
    )
