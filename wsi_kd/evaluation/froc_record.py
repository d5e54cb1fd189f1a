"""FROC of a tile score over seeds with its bands, for metrics.json."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.evaluation.aggregates import pooled_metric, unknown_metric
from wsi_kd.evaluation.froc import (
    CURVE,
    RATES,
    FrocData,
    Sensitivities,
    SlideDetections,
    froc_sensitivity,
    gather,
)
from wsi_kd.evaluation.intervals import CaseCounts, Resamples, case_indices
from wsi_kd.evaluation.sampled_scores import band, rounded
from wsi_kd.evaluation.schema import Froc, FrocCurve, FrocPoints

EVERY = np.concatenate([RATES, CURVE])
HIT_RULE: Final = (
    "a detection is a tile whose score no neighbor exceeds (neighbors overlap or touch it; a plateau counts "
    "once); it hits a lesion where its tile is labeled positive, and a lesion, a connected group of "
    "positive tiles, counts once; on a tile labeled negative it is a false positive"
)


class FrocSeed(NamedTuple):
    """The detections of one seed's models on all test slides."""

    detections: tuple[SlideDetections | None, ...]
    case_ids: tuple[str, ...]
    positive_slides: Bool[np.ndarray, "slides"]
    reason: str
    """Why there are none, or empty."""


class _Counted(NamedTuple):
    """One seed's detections on the slides that have tile labels."""

    data: FrocData
    case_of: Int64[np.ndarray, "slides"]
    negative: Bool[np.ndarray, "slides"]

    def sensitivity(self, counts: CaseCounts, *, negative_alone: bool) -> Sensitivities:
        """Return the sensitivity at `EVERY` rate in every resample."""
        counted = self.negative if negative_alone else np.ones_like(self.negative)
        return froc_sensitivity(self.data, EVERY, case_of=self.case_of, counts=counts, counted=counted)


class _Read(NamedTuple):
    """Sensitivities at `EVERY` rate: those of each seed, and of each seed in every resample."""

    seeds: Float64[np.ndarray, "seeds rates"]
    drawn: Float64[np.ndarray, "seeds rates resamples"] | None


def froc_record(
    seeds: Sequence[FrocSeed],
    *,
    cases: Sequence[str],
    resamples: Resamples | None,
    confidence: float,
) -> Froc:
    """Measure the mean over seeds; false positives over all slides, and beside it over negative ones alone.

    Args:
        seeds: one a training seed, of the same slides.
        cases: every patient, in the order of the resamples.
        resamples: those of the tile measures; None: no bands.
        confidence: of the bands, 0-1.
    """
    counted = [_counted(one, cases) for one in seeds]
    reason = next((one.reason for one in seeds if one.reason), "")
    if not reason and not all(len(one.data.hit_scores) for one in counted):
        reason = "no test slide has a lesion: no tile is labeled positive"
    without = reason or ("" if all(one.negative.any() for one in counted) else "no negative slides")
    once = np.ones((len(cases), 1))
    everywhere = None if reason else _read(counted, once, resamples, negative_alone=False)
    negative = None if without else _read(counted, once, resamples, negative_alone=True)
    return {
        **_points(everywhere, reason, resamples=resamples, confidence=confidence),
        "false_positives_per_slide": rounded(RATES),
        "curve": _curve(everywhere, confidence=confidence),
        "negative_slides": _points(negative, without, resamples=resamples, confidence=confidence),
        "lesions": len(counted[0].data.hit_scores),
        "slides": len(counted[0].case_of),
        "candidates": 0.0
        if reason
        else float(np.mean([one.data.candidates / len(one.case_of) for one in counted])),
        "hit_rule": HIT_RULE,
        "reason": reason,
    }


def _counted(seed: FrocSeed, cases: Sequence[str]) -> _Counted:
    kept = [at for at, found in enumerate(seed.detections) if found is not None]
    slides = [found for found in seed.detections if found is not None]
    case_of = case_indices([seed.case_ids[at] for at in kept], cases)
    return _Counted(gather(slides), case_of, ~seed.positive_slides[np.array(kept, dtype=np.int64)])


def _read(
    seeds: Sequence[_Counted], once: CaseCounts, resamples: Resamples | None, *, negative_alone: bool
) -> _Read:
    each = [one.sensitivity(once, negative_alone=negative_alone)[:, 0] for one in seeds]
    if resamples is None:
        return _Read(np.stack(each), None)
    drawn = [one.sensitivity(resamples.counts, negative_alone=negative_alone) for one in seeds]
    return _Read(np.stack(each), np.stack(drawn))


def _points(
    found: _Read | None, reason: str, *, resamples: Resamples | None, confidence: float
) -> FrocPoints:
    if found is None:
        unknown = unknown_metric(reason, confidence=confidence)
        return {"sensitivity": [], "low": None, "high": None, "score": unknown}
    at = slice(0, len(RATES))
    low, high = _band(found, at, confidence=confidence)
    drawn = [] if found.drawn is None else [one[at].mean(axis=0) for one in found.drawn]
    score = pooled_metric(
        [{"value": float(one[at].mean()), "reason": ""} for one in found.seeds],
        drawn,
        resamples=resamples,
        confidence=confidence,
    )
    sensitivity = rounded(found.seeds[:, at].mean(axis=0))
    return {"sensitivity": sensitivity, "low": low, "high": high, "score": score}


def _curve(found: _Read | None, *, confidence: float) -> FrocCurve:
    if found is None:
        return {"false_positives_per_slide": [], "sensitivity": [], "low": None, "high": None}
    at = slice(len(RATES), len(EVERY))
    low, high = _band(found, at, confidence=confidence)
    return {
        "false_positives_per_slide": rounded(CURVE),
        "sensitivity": rounded(found.seeds[:, at].mean(axis=0)),
        "low": low,
        "high": high,
    }


def _band(found: _Read, at: slice, *, confidence: float) -> tuple[list[float] | None, list[float] | None]:
    """Return the band of the mean over seeds; resamples without a counted slide are left out."""
    if found.drawn is None:
        return None, None
    curves = found.drawn[:, at].mean(axis=0)
    defined = curves[:, np.isfinite(curves).all(axis=0)]
    return band(defined, confidence=confidence) if defined.shape[1] else (None, None)
