"""One score within the slides of each site, each scanner, each value of a manifest column."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from wsi_kd.evaluation.aggregates import unknown_metric
from wsi_kd.evaluation.sampled_scores import Sampled, sample_scores
from wsi_kd.evaluation.schema import PooledMetric, ScoreSummary, Subgroup
from wsi_kd.evaluation.scored_slides import SlideScores

FEW_CASES: Final = 20
"""Fewer cases than this in a group are warned of."""
MEASURED: Final = ("roc_auc", "sensitivity", "specificity")


def subgroups(
    sampled: Sampled,
    columns: Mapping[str, Mapping[str, str]],
    *,
    samples: int,
    seed: int,
    measure: Callable[[Sampled], ScoreSummary],
) -> list[Subgroup]:
    """Measure every group of every column, the groups in alphabetic order; intervals resample its patients.

    Args:
        sampled: all test slides.
        columns: by name each slide's value; slides without one form a group of their own.
        samples: bootstrap resamples.
        seed: of the bootstrap.
        measure: makes the summary of a group.
    """
    found = []
    for column, values in columns.items():
        for value in sorted({values.get(slide, "") for part in sampled.pooled for slide in part.slide_ids}):
            parts = [part.select(_has(part, values, value)) for part in sampled.parts]
            chosen = sample_scores(
                [part for part in parts if len(part.labels)],
                samples=samples,
                confidence=sampled.confidence,
                seed=seed,
            )
            summary = measure(chosen._replace(parts=()))  # no row a fold is asked for
            found.append(_record(chosen, column, value, summary=summary))
    return found


def _has(part: SlideScores, values: Mapping[str, str], value: str) -> np.ndarray:
    return np.array([values.get(slide, "") == value for slide in part.slide_ids], dtype=bool)


def _record(chosen: Sampled, column: str, value: str, *, summary: ScoreSummary) -> Subgroup:
    first = chosen.pooled[0]
    metrics: dict[str, PooledMetric] = {
        name: unknown_metric(chosen.reason, confidence=chosen.confidence)
        if chosen.reason
        else summary["pooled"][name]
        for name in MEASURED
    }
    return {
        "column": column,
        "value": value,
        "slides": len(first.labels),
        "cases": len(chosen.cases),
        "positives": int((first.labels > 0).sum()),
        "small": len(chosen.cases) < FEW_CASES,
        "roc_auc": metrics["roc_auc"],
        "sensitivity": metrics["sensitivity"],
        "specificity": metrics["specificity"],
        "reason": chosen.reason,
    }
