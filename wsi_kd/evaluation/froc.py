"""Free-response ROC of a tile score: lesions found against false positives per slide.

The definition is CAMELYON16's (sensitivity against the average number of false positives per image, Ehteshami
Bejnordi et al., JAMA 2017): a detection is one point with a score, it hits the lesion it lies in, a lesion
counts once however often it is hit, and every detection outside a lesion is a false positive. The score is
the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives per slide. How tiles become detections and
lesions: `wsi_kd.evaluation.detections`; what differs from the challenge: docs/measures.md.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.evaluation.detections import lesions, neighbor_pairs, peaks
from wsi_kd.evaluation.intervals import CaseCounts

RATES = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
"""False positives per slide at which the CAMELYON16 score reads the sensitivity."""
CURVE = 2.0 ** np.arange(-3.0, 4.001, 0.125)
"""False positives per slide of the drawn curve: 1/8 to 16, eight points to a doubling."""
MAX_THRESHOLDS = 2048
"""More lesions with different scores than this share thresholds, for intervals only."""

Sensitivities: TypeAlias = Float64[np.ndarray, "rates resamples"]


class SlideDetections(NamedTuple):
    """What one tile score finds in one slide."""

    false_positives: Float64[np.ndarray, "detections"]
    """Scores of the detections outside every lesion."""
    hits: Float64[np.ndarray, "lesions"]
    """Of each lesion the highest score of a detection inside it; -inf where there is none."""
    candidates: int
    """Detections on tiles of known label, several in one lesion counted each."""


class FrocData(NamedTuple):
    """The detections of many slides, flat."""

    false_scores: Float64[np.ndarray, "detections"]
    false_slide: Int64[np.ndarray, "detections"]
    hit_scores: Float64[np.ndarray, "lesions"]
    hit_slide: Int64[np.ndarray, "lesions"]
    candidates: int


def detect(
    scores: Float64[np.ndarray, "tiles"], tile_labels: TileLabels, *, coords: Coords, tile_level0_px: float
) -> SlideDetections:
    """Turn one slide's tiles into detections and lesions; `detect_all` does it for several scores at once."""
    return detect_all({"": scores}, tile_labels, coords=coords, tile_level0_px=tile_level0_px)[""]


def detect_all(
    scores: dict[str, Float64[np.ndarray, "tiles"]],
    tile_labels: TileLabels,
    *,
    coords: Coords,
    tile_level0_px: float,
) -> dict[str, SlideDetections]:
    """Turn one slide's tiles into detections and lesions, the neighbors looked up once for every score.

    A detection is a peak of the map of all tiles. On a tile that is labeled positive it hits that tile's
    lesion, on one labeled negative it is a false positive, on one of unknown label it is neither.

    Args:
        scores: by name; finite, higher means more positive.
        tile_labels: 1 positive, 0 negative, -1 unknown.
        coords: top-left corners, level-0 pixels.
        tile_level0_px: edge of a tile, above 0.
    """
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    truth = tile_labels[order]
    pairs = neighbor_pairs(coords[order], tile_level0_px=tile_level0_px)
    lesion = lesions(truth == 1, pairs)
    found = {}
    for name, values in scores.items():
        ordered = values[order]
        at = peaks(ordered, pairs)
        hits = np.full(lesion.groups, -np.inf)
        inside = at[truth[at] == 1]
        np.maximum.at(hits, lesion.of_tile[inside], ordered[inside])
        found[name] = SlideDetections(ordered[at[truth[at] == 0]], hits, int((truth[at] >= 0).sum()))
    return found


def gather(slides: Sequence[SlideDetections]) -> FrocData:
    """Put the detections of many slides together; their order numbers the slides."""
    false = [one.false_positives for one in slides]
    hits = [one.hits for one in slides]
    numbers = np.arange(len(slides))
    nothing = [np.zeros(0)]
    return FrocData(
        false_scores=np.concatenate([*nothing, *false]),
        false_slide=np.repeat(numbers, [len(one) for one in false]).astype(np.int64),
        hit_scores=np.concatenate([*nothing, *hits]),
        hit_slide=np.repeat(numbers, [len(one) for one in hits]).astype(np.int64),
        candidates=sum(one.candidates for one in slides),
    )


def froc_sensitivity(
    data: FrocData,
    rates: Float64[np.ndarray, "rates"],
    *,
    case_of: Int64[np.ndarray, "slides"],
    counts: CaseCounts,
    counted: Bool[np.ndarray, "slides"],
) -> Sensitivities:
    """Return the share of lesions hit at each rate of false positives, in every resample of patients.

    At the threshold t (a detection counts where score >= t) sensitivity(t) is the share of lesions with a hit
    and FP(t) the false positives in `counted` slides per such slide; at a rate f it is the largest
    sensitivity(t) among thresholds with FP(t) <= f, and 0 where there is none. Only the scores of lesions
    matter as thresholds: between them the sensitivity does not change and FP can only grow.

    >>> one = SlideDetections(np.array([0.7]), np.array([0.9, 0.6]), candidates=3)
    >>> froc_sensitivity(
    ...     gather([one]),
    ...     np.array([0.5, 1.0]),
    ...     case_of=np.array([0]),
    ...     counts=np.ones((1, 1)),
    ...     counted=np.array([True]),
    ... )[:, 0].tolist()
    [0.5, 1.0]
    """
    thresholds = _thresholds(data.hit_scores)
    hits = _per_case(thresholds, data.hit_scores, case_of[data.hit_slide], cases=len(counts))
    kept = counted[data.false_slide]
    false_case = case_of[data.false_slide[kept]]
    false = _per_case(thresholds, data.false_scores[kept], false_case, cases=len(counts))
    lesion_count = np.bincount(case_of[data.hit_slide], minlength=len(counts)) @ counts
    slide_count = np.bincount(case_of[counted], minlength=len(counts)) @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = hits @ counts / lesion_count
        false_per_slide = false @ counts / slide_count
    return _at_rates(sensitivity, false_per_slide, rates)


def _thresholds(hit_scores: Float64[np.ndarray, "lesions"]) -> Float64[np.ndarray, "thresholds"]:
    distinct = np.unique(hit_scores[np.isfinite(hit_scores)])[::-1]
    if len(distinct) > MAX_THRESHOLDS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, MAX_THRESHOLDS).round().astype(np.int64)]
    return distinct


def _per_case(
    thresholds: Float64[np.ndarray, "thresholds"],
    scores: Float64[np.ndarray, "detections"],
    cases_of: Int64[np.ndarray, "detections"],
    *,
    cases: int,
) -> Float64[np.ndarray, "thresholds cases"]:
    """Count per case the detections at or above each threshold (falling)."""
    first = np.searchsorted(-thresholds, -scores, side="left")
    reached = first < len(thresholds)
    cell = first[reached] * cases + cases_of[reached]
    at_threshold = np.bincount(cell, minlength=len(thresholds) * cases).reshape(len(thresholds), cases)
    return np.asarray(at_threshold.cumsum(axis=0), dtype=np.float64)


def _at_rates(
    sensitivity: Float64[np.ndarray, "thresholds resamples"],
    false_per_slide: Float64[np.ndarray, "thresholds resamples"],
    rates: Float64[np.ndarray, "rates"],
) -> Sensitivities:
    """Read each resample's step curve; both rise from one threshold to the next."""
    resamples = sensitivity.shape[1]
    found = np.zeros((len(rates), resamples))
    for at in range(resamples):
        allowed = np.searchsorted(false_per_slide[:, at], rates * (1.0 + 1e-12), side="right")
        some = allowed > 0
        found[some, at] = sensitivity[allowed[some] - 1, at]
    found[:, ~np.isfinite(sensitivity).all(axis=0) | ~np.isfinite(false_per_slide).all(axis=0)] = np.nan
    return found
