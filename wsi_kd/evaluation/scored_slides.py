"""What is measured: the scores that one model gives the slides of one part, and whether they can be."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.evaluation.intervals import case_indices

BINARY = 2


class SlideScores(NamedTuple):
    """Scores of one model on its test part (or, fold None, of one seed's models on all test parts)."""

    seed: int
    fold: int | None
    slide_ids: tuple[str, ...]
    case_ids: tuple[str, ...]
    labels: Int64[np.ndarray, "slides"]
    """Class indices; 0 is the negative class."""
    scores: Float64[np.ndarray, "slides"]
    """Probability of any class but the first."""
    calls: Bool[np.ndarray, "slides"]
    """True where the score reaches the threshold of its own model."""
    class_probabilities: Float64[np.ndarray, "slides classes"] | None
    """For a score that tells more than two classes apart; else None."""
    threshold: float | None

    def select(self, chosen: Bool[np.ndarray, "slides"]) -> "SlideScores":
        """Return the slides where `chosen` is True."""
        kept = np.flatnonzero(chosen)
        probabilities = self.class_probabilities
        return self._replace(
            slide_ids=tuple(self.slide_ids[index] for index in kept),
            case_ids=tuple(self.case_ids[index] for index in kept),
            labels=self.labels[kept],
            scores=self.scores[kept],
            calls=self.calls[kept],
            class_probabilities=None if probabilities is None else probabilities[kept],
        )


def pool_folds(folds: Sequence[SlideScores]) -> SlideScores:
    """Put the test parts of one seed's folds together, in the order of the folds."""
    folds = sorted(folds, key=lambda part: -1 if part.fold is None else part.fold)
    probabilities = [part.class_probabilities for part in folds if part.class_probabilities is not None]
    return SlideScores(
        seed=folds[0].seed,
        fold=None,
        slide_ids=tuple(slide_id for part in folds for slide_id in part.slide_ids),
        case_ids=tuple(case for part in folds for case in part.case_ids),
        labels=np.concatenate([part.labels for part in folds]),
        scores=np.concatenate([part.scores for part in folds]),
        calls=np.concatenate([part.calls for part in folds]),
        class_probabilities=np.concatenate(probabilities) if probabilities else None,
        threshold=folds[0].threshold if len(folds) == 1 else None,
    )


def pool_seeds(parts: Sequence[SlideScores]) -> list[SlideScores]:
    """Return one pooled part a seed, in the order of the seeds."""
    seeds = sorted({part.seed for part in parts})
    return [pool_folds([part for part in parts if part.seed == wanted]) for wanted in seeds]


def why_unmeasured(part: SlideScores) -> str:
    """Say why nothing can be measured on a part, or return an empty text.

    A slide whose score is no number is not left out: a model that fails on hard slides would gain by it.
    """
    if not len(part.labels):
        return "no slide with a label"
    strange = np.flatnonzero(~np.isfinite(part.scores))
    if len(strange):
        first = part.slide_ids[strange[0]]
        return f"{len(strange)} of {len(part.scores)} scores are not finite (first: slide {first})"
    return ""


def cases_of(pooled: Sequence[SlideScores]) -> list[str]:
    """Return the patients of all seeds' slides, sorted."""
    return sorted({case for part in pooled for case in part.case_ids})


def class_counts(pooled: Sequence[SlideScores], cases: Sequence[str]) -> Float64[np.ndarray, "classes cases"]:
    """Count slides per class and case, the least over the seeds, so that a resample suits every seed."""
    classes = BINARY
    for part in pooled:
        if part.class_probabilities is not None:
            classes = part.class_probabilities.shape[1]
    counts = np.full((classes, len(cases)), np.inf)
    for part in pooled:
        labels = part.labels if part.class_probabilities is not None else (part.labels > 0).astype(np.int64)
        found = np.zeros_like(counts)
        np.add.at(found, (labels, case_indices(part.case_ids, cases)), 1.0)
        counts = np.minimum(counts, found)
    return counts
