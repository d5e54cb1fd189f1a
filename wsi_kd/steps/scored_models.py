"""What the predict step wrote, read and checked for evaluate: arrays per model that the metrics take."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import TileLabels
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

LabelsBySlide: TypeAlias = dict[str, TileLabels]


class ModelPredictions(NamedTuple):
    """What the predict step wrote for one model; `tiles` by slide id, test slides only."""

    table: PredictionTable
    test_rows: tuple[PredictionRow, ...]
    tiles: dict[str, TileTable]


def read_model(folder: Path, classes: Sequence[str]) -> ModelPredictions:
    """Read one model's predictions and the tiles of its test slides.

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
    tiles = {row.slide_id: read_tiles_csv(folder / "tiles" / f"{row.slide_id}.csv") for row in test_rows}
    return ModelPredictions(table, test_rows, tiles)


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


def known_tile_labels(models: Sequence[ModelPredictions], negative: str) -> LabelsBySlide:
    """Return tile labels by test slide; {} where no tile is labeled positive.

    A tile of a negative slide is negative by the definition of a bag, annotated or not.
    """
    labels: LabelsBySlide = {}
    for model in models:
        for row in model.test_rows:
            known = model.tiles[row.slide_id].tile_labels
            labels[row.slide_id] = np.zeros_like(known) if row.label == negative else known
    return labels if any((known == 1).any() for known in labels.values()) else {}


def slide_scores(model: ModelPredictions, score: str, classes: Sequence[str]) -> SlideScores:
    """Return the score `teacher` or `student` of the test slides."""
    rows = model.test_rows
    values = np.array([getattr(row, f"{score}_probability") for row in rows], dtype=np.float64)
    threshold = model.table.header["thresholds"][score]
    many = score == "teacher" and len(classes) > BINARY
    return SlideScores(
        seed=model.table.header["seed"],
        fold=model.table.header["fold"],
        case_ids=tuple(row.case_id for row in rows),
        labels=np.array([list(classes).index(row.label) for row in rows], dtype=np.int64),
        scores=values,
        calls=values >= threshold,
        class_probabilities=np.array([row.class_probabilities for row in rows]) if many else None,
        threshold=threshold,
    )


def tile_scores(model: ModelPredictions, score: str, tile_labels: LabelsBySlide) -> TileScores:
    """Return the score `attention`, `evidence` or `student` of the test slides' tiles with a known label."""
    known = [tile_labels[row.slide_id] >= 0 for row in model.test_rows]
    values = [_scores_of(model.tiles[row.slide_id], score) for row in model.test_rows]
    labels = [tile_labels[row.slide_id] for row in model.test_rows]
    return TileScores(
        seed=model.table.header["seed"],
        fold=model.table.header["fold"],
        scores=np.concatenate([value[which] for value, which in zip(values, known, strict=True)]),
        labels=np.concatenate([label[which] == 1 for label, which in zip(labels, known, strict=True)]),
        slide=np.repeat(np.arange(len(known)), [int(which.sum()) for which in known]),
        case_ids=tuple(row.case_id for row in model.test_rows),
        positive_slides=np.array([row.label != model.table.header["classes"][0] for row in model.test_rows]),
    )


def _scores_of(tiles: TileTable, score: str) -> np.ndarray:
    if score == "attention":
        return attention_times_tiles(tiles.attention)
    scores = tiles.evidence if score == "evidence" else tiles.student_probability
    return cast("np.ndarray", scores)
