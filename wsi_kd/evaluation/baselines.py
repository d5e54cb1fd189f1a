"""Baselines without MIL: logistic regression on one vector a slide. A MIL model must beat what they reach."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wsi_kd.bags.splits import Fold
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.evaluation.classification import choose_threshold
from wsi_kd.evaluation.slide_metrics import BINARY, SlideScores

COLOR_NAMES = ("mean_red", "mean_green", "mean_blue")
MAX_ITERATIONS = 5000

Vectors: TypeAlias = Float64[np.ndarray, "slides features"]
Probabilities: TypeAlias = Float64[np.ndarray, "slides classes"]


class SlideVectors(NamedTuple):
    """One vector a slide."""

    slide_ids: tuple[str, ...]
    case_ids: tuple[str, ...]
    labels: Int64[np.ndarray, "slides"]
    vectors: Vectors

    def select(self, slide_ids: Sequence[str]) -> "SlideVectors":
        """Return the given slides, in that order."""
        position = {slide_id: index for index, slide_id in enumerate(self.slide_ids)}
        chosen = [position[slide_id] for slide_id in slide_ids]
        case_ids = tuple(self.case_ids[index] for index in chosen)
        return SlideVectors(tuple(slide_ids), case_ids, self.labels[chosen], self.vectors[chosen])


def slide_vector(features: FeatureArray) -> Float64[np.ndarray, "vector"]:
    """Return the mean of a slide's tile features; of pixels the mean red, green and blue.

    >>> slide_vector(np.uint8([[10, 20, 30, 20, 40, 60]])).tolist()  # one tile of two pixels
    [15.0, 30.0, 45.0]
    """
    mean = np.asarray(features.mean(axis=0, dtype=np.float64))
    return np.asarray(mean.reshape(-1, 3).mean(axis=0)) if features.dtype == np.uint8 else mean


def baseline_scores(slides: SlideVectors, folds: Sequence[Fold], *, classes: int) -> list[SlideScores]:
    """Train on each fold's train part, choose Youden's threshold on its val part, score its test part."""
    return [_fold_scores(slides, fold, index=index, classes=classes) for index, fold in enumerate(folds)]


def fit_logistic(train: SlideVectors, wanted: Vectors, *, classes: int) -> Probabilities:
    """Return the probabilities that logistic regression on `train` gives `wanted`.

    L2 with C = 1, balanced classes, vectors standardized by mean and deviation of the train part alone. A
    class that the train part lacks gets probability 0.
    """
    if not len(wanted):
        return np.zeros((0, classes))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS, class_weight="balanced")
    )
    model.fit(train.vectors, train.labels)
    probabilities = np.zeros((len(wanted), classes))
    probabilities[:, model.classes_.astype(np.int64)] = model.predict_proba(wanted)
    return probabilities


def color_columns(feature_names: Sequence[str]) -> list[int] | None:
    """Return the columns of the three mean colors, or None where the encoder has no such columns.

    >>> color_columns(["contrast", "mean_red", "mean_green", "mean_blue"]), color_columns([])
    ([1, 2, 3], None)
    """
    names = list(feature_names)
    if not set(COLOR_NAMES) <= set(names):
        return None
    return [names.index(name) for name in COLOR_NAMES]


def _fold_scores(slides: SlideVectors, fold: Fold, *, index: int, classes: int) -> SlideScores:
    train, val, test = (slides.select(part) for part in fold)
    val_scores = _positive(fit_logistic(train, val.vectors, classes=classes))
    probabilities = fit_logistic(train, test.vectors, classes=classes)
    scores = _positive(probabilities)
    threshold = choose_threshold(val.labels > 0, val_scores, rule="youden", min_sensitivity=1.0)
    return SlideScores(
        seed=0,
        fold=index,
        slide_ids=test.slide_ids,
        case_ids=test.case_ids,
        labels=test.labels,
        scores=scores,
        calls=scores >= threshold,
        class_probabilities=probabilities if classes > BINARY else None,
        threshold=threshold,
    )


def _positive(probabilities: Probabilities) -> Float64[np.ndarray, "slides"]:
    return np.asarray(probabilities[:, 1:].sum(axis=1))
