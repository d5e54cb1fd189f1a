"""What a checkpoint learns from its validation slides once training is over: its thresholds and its limit."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.device import choose_device
from wsi_kd.evaluation.classification import choose_threshold
from wsi_kd.inference.likeness import calibrate_limit
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.slide_prediction import SLIDE_SCORES, slide_scores
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.settings.models import TrainSettings


class ValidationScores(NamedTuple):
    """What a model says of the validation slides."""

    labels: Int64[np.ndarray, "slides"]
    """1 for every class but the first."""
    scores: Mapping[str, Float64[np.ndarray, "slides"]]
    """By name of `SLIDE_SCORES`; the student's only where there is one."""
    distances: tuple[float, ...]
    """How unlike the training slides; see `SlidePrediction`."""


def facts_of_validation(
    model: TeacherStudent, val: BagSet, *, case_of: Mapping[str, str], settings: TrainSettings
) -> dict[str, Any]:
    """Return the members `thresholds` and `out_of_distribution` of a checkpoint's header.

    `case_of` names the case of every slide of the validation part.
    """
    scored = score_validation(model, val, settings=settings)
    cases = [case_of[slide_id] for slide_id in val.slide_ids]
    return {
        "thresholds": choose_thresholds(scored, settings=settings),
        "out_of_distribution": calibrate_limit(scored.distances, cases)._asdict(),
    }


def score_validation(model: TeacherStudent, val: BagSet, *, settings: TrainSettings) -> ValidationScores:
    """Score every slide of the validation part, one bag at a time; the model ends on the CPU."""
    device = choose_device(settings.device)
    model.to(device)
    predictions = [
        predict_bag(
            model,
            val.features[start:end],
            student_pooling=settings.student_pooling,
            top_k=settings.top_k,
            device=device,
        )
        for start, end in pairwise(val.offsets)
    ]
    model.to("cpu")
    scored = [slide_scores(prediction) for prediction in predictions]
    return ValidationScores(
        labels=(val.labels > 0).astype(np.int64),
        scores={name: np.array([one[name] for one in scored]) for name in scored[0]},
        distances=tuple(prediction.feature_distance for prediction in predictions),
    )


def choose_thresholds(scored: ValidationScores, *, settings: TrainSettings) -> dict[str, float | None]:
    """Return the operating point of every slide score; the student's None without one.

    Both poolings of the student have their own, for both are evaluated.
    """
    return {
        name: choose_threshold(
            scored.labels,
            scored.scores[name],
            rule=settings.threshold_rule,
            min_sensitivity=settings.min_sensitivity,
        )
        if name in scored.scores
        else None
        for name in SLIDE_SCORES
    }
