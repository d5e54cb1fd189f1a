"""What `check-precision` found of each model and score: a line each of the report's table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.evaluation.schema import Metrics
from wsi_kd.inference.calls import slide_call


class PrecisionLine(NamedTuple):
    """One score of a model that `check-precision` held against float32; what is of the features is of all."""

    model: str
    """As recipe/seed0/fold0."""
    score: str
    """teacher or student."""
    encoder: str
    dtype: str
    compiled: int
    """1 or 0."""
    device: str
    """cpu, or the GPU's name."""
    embedded_in: str
    """embed.precision of the run's own feature files."""
    slides: int
    tiles: int
    least_cosine: float
    mean_cosine: float | None
    """None where the record has none."""
    largest_change: float
    """Of a slide's logit; so the next."""
    mean_change: float
    changed_calls: int | None
    """Slides that are called otherwise; None for a model without threshold in the run."""
    cosine_limit: float
    change_limit: float
    fault: str
    """The worst that is beyond a limit, of any model or feature file; empty where nothing is."""
    outdated: str
    """What of the run has changed since; empty where nothing has."""


def precision_lines(record: Mapping[str, Any], metrics: Metrics, *, outdated: str) -> Iterator[PrecisionLine]:
    """Yield a line a model and score of `precision.json`.

    A call is what the model's stored threshold makes of the slide's probability, the softmax of its logits
    (the student's beside 0 for the negative class), here of the encoded tiles alone.

    Args:
        record: the file's content.
        metrics: the run's: classes, and the thresholds of its models.
        outdated: why the record no longer speaks of the run; empty where it does.
    """
    slides, limits = record["slides"], record["limits"]
    of_the_features = {
        "encoder": record["settings"]["embed"]["encoder"],
        "dtype": record["dtype"],
        "compiled": int(record["compiled"]),
        "device": record["device"],
        "embedded_in": ", ".join(sorted({slide["embedded_in"] for slide in slides})),
        "slides": len(slides),
        "tiles": sum(slide["tiles"] for slide in slides),
        "least_cosine": record["least_cosine"],
        "mean_cosine": _mean_cosine(slides),
    }
    foreign = {model["model"] for model in record["models"] if not model["in_run"]}
    scored = dict.fromkeys((one["model"], one["score"]) for slide in slides for one in slide["logits"])
    for model, score in scored:
        logits = [_logits(slide, model, score) for slide in slides]
        changes = [one["change"] for of_slide in logits for one in of_slide]
        threshold = None if model in foreign else _threshold(metrics, model, score)
        yield PrecisionLine(
            **of_the_features,
            model=model,
            score=score,
            largest_change=max(changes),
            mean_change=float(np.mean(changes)),
            changed_calls=_changed_calls(logits, metrics["classes"], threshold),
            cosine_limit=limits["least_cosine"],
            change_limit=limits["largest_change"],
            fault=record["fault"],
            outdated=outdated,
        )


def _mean_cosine(slides: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean over tiles; None for a record made before slides had one."""
    if any("mean_cosine" not in slide for slide in slides):
        return None
    means = [float(slide["mean_cosine"]) for slide in slides]
    return float(np.average(means, weights=[slide["tiles"] for slide in slides]))


def _logits(slide: Mapping[str, Any], model: str, score: str) -> list[Mapping[str, Any]]:
    return [one for one in slide["logits"] if (one["model"], one["score"]) == (model, score)]


def _threshold(metrics: Metrics, model: str, score: str) -> float | None:
    """Return what is stored with a model of the run, called recipe/seed0/fold0; None for one it has not."""
    recipe, _, place = model.partition("/")
    if recipe not in metrics["recipes"]:
        return None
    for one in metrics["recipes"][recipe]["models"]:
        if f"seed{one['seed']}/fold{one['fold']}" == place:
            return one["thresholds"].get(score)
    return None


def _changed_calls(
    slides: Sequence[Sequence[Mapping[str, Any]]], classes: Sequence[str], threshold: float | None
) -> int | None:
    if threshold is None:
        return None
    return sum(
        len({_call(logits, way, classes=classes, threshold=threshold) for way in ("exact", "found")}) > 1
        for logits in slides
    )


def _call(logits: Sequence[Mapping[str, Any]], way: str, *, classes: Sequence[str], threshold: float) -> str:
    by_class = {one["class"]: one[way] for one in logits}
    values = np.array([by_class.get(name, 0.0) for name in classes], np.float64)
    parts = np.exp(values - values.max())
    return slide_call(parts / parts.sum(), classes=classes, threshold=threshold)
