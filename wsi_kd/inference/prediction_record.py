"""What one or several models say of one slide, as the members of `prediction.json`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from jaxtyping import Float64
from numpy import ndarray

from wsi_kd.core.places import without_folder, without_paths
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import StatusRow
from wsi_kd.inference.calls import slide_call
from wsi_kd.inference.prediction_schema import (
    KIND,
    ModelRecord,
    OutOfDistributionRecord,
    PredictionRecord,
    SecondsRecord,
    SlideRecord,
    SpreadRecord,
    ThresholdRecord,
)
from wsi_kd.inference.slide_prediction import SLIDE_SCORES, SlidePrediction

CALLED_SCORES: Final = ("teacher", "student")
"""Scores that a slide is called by; the student's by the pooling that the settings deploy. Probabilities are
given by either pooling."""

SPREAD_MEANING: Final = (
    "spread over the models of the ensemble of the probability of any class but the first: standard "
    "deviation (n - 1), smallest, largest; one model has none"
)


class Answer(NamedTuple):
    """What the models say of one slide."""

    prediction: SlidePrediction
    """Of the only model, or the mean over several."""
    spread: Mapping[str, SpreadRecord]
    """By score; empty for one model."""
    out_of_distribution: OutOfDistributionRecord
    note: str
    """The same in words for the status line; empty for a slide like those of the training."""


class Outcome(NamedTuple):
    """How one slide ended."""

    status: StatusRow
    answer: Answer | None
    """None for a slide that failed."""
    inputs_hash: str
    seconds: SecondsRecord


def prediction_record(
    outcome: Outcome, *, slide_header: Mapping[str, Any], model_headers: Sequence[Mapping[str, Any]]
) -> PredictionRecord:
    """Fill the record; `files` is still empty.

    Args:
        outcome: status and scores; a failed slide has a status and a reason only.
        slide_header: of the slide's features (or of the last step that it reached).
        model_headers: of the checkpoints, which agree in classes and settings.
    """
    status, answer, inputs_hash, seconds = outcome
    first = model_headers[0]
    classes = [str(name) for name in first["classes"]]
    thresholds = slide_thresholds(model_headers)
    found = {} if answer is None else _by_score(answer.prediction)
    record = {
        **stamp(KIND, without_paths(first["sections"])),
        "inputs_hash": inputs_hash,
        "slide_id": status.slide_id,
        "status": str(status.status),
        "reason": status.reason,
        "step": status.step,
        "classes": classes,
        "probabilities": {
            score: dict(zip(classes, values.tolist(), strict=True)) for score, values in found.items()
        },
        "calls": _calls(found, thresholds, classes),
        "thresholds": thresholds,
        "uncertainty": {
            "models": len(model_headers),
            "spread": {} if answer is None else dict(answer.spread),
            "meaning": SPREAD_MEANING,
        },
        "out_of_distribution": None if answer is None else answer.out_of_distribution,
        "tiles": status.tiles,
        "slide": _members(slide_header, SlideRecord),
        "models": [_members(header, ModelRecord) for header in model_headers],
        "seconds": seconds,
        "files": {},
        "research_only": RESEARCH_ONLY,
    }
    return cast("PredictionRecord", record)


def slide_thresholds(model_headers: Sequence[Mapping[str, Any]]) -> dict[str, ThresholdRecord]:
    """Return each slide score's threshold; of several models the mean of theirs.

    Each was chosen on its own model's validation part; there is no slide that none of the models has seen,
    on which one could be chosen for the ensemble.
    """
    thresholds: dict[str, ThresholdRecord] = {}
    for score in SLIDE_SCORES:
        values = [header["thresholds"].get(score) for header in model_headers]
        given = [float(value) for value in values if value is not None]
        thresholds[score] = {
            "value": sum(given) / len(given) if given and len(given) == len(values) else None,
            "rule": _joined(header["threshold_rule"] for header in model_headers),
            "chosen_on": _joined(header["threshold_split"] for header in model_headers),
        }
    return thresholds


def _by_score(prediction: SlidePrediction) -> dict[str, Float64[ndarray, "classes"]]:
    found = {"teacher": prediction.teacher_probability}
    student = prediction.student
    if student is not None:
        found |= {"student": student.deployed, "student_max": student.by_max, "student_topk": student.by_topk}
    return found


def _calls(
    found: Mapping[str, Float64[ndarray, "classes"]],
    thresholds: Mapping[str, ThresholdRecord],
    classes: Sequence[str],
) -> dict[str, str]:
    calls = {}
    for score in CALLED_SCORES:
        threshold = thresholds[score]["value"]
        if score in found and threshold is not None:
            calls[score] = slide_call(found[score], classes=classes, threshold=threshold)
    return calls


def _members(header: Mapping[str, Any], record: type) -> dict[str, Any]:
    found = {key: header[key] for key in record.__annotations__ if key in header}
    return {**found, "encoder": without_folder(str(found["encoder"]))} if "encoder" in found else found


def _joined(names: Any) -> str:
    return " and ".join(dict.fromkeys(str(name) for name in names))
