"""Gaussian bags whose truth is known: what a method finds can be held against the likelihood ratio itself.

A bag holds 100 points in 64 dimensions. Negative points come from four unit-variance clusters whose centers
have norm 2. In positive bags a share `witness_rate` of the points is shifted, one half (rounded up) by `easy`
along one axis, the other by `hard` along a second or along the same one. Axes and centers never change.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from bag_parts import make_bags
from wsi_kd.bags.datasets import BagSet

DIM: Final = 64
GEOMETRY_SEED: Final = 12345
BAGS: Final = 200
INSTANCES: Final = 100
FIRST_SEED: Final = {"train": 1000, "val": 2000, "test": 3000}
"""Draw s of a part is seeded with this plus s."""


class Geometry(NamedTuple):
    """Where clusters and witnesses lie."""

    centers: Float64[np.ndarray, "4 64"]
    easy_axis: Float64[np.ndarray, "64"]
    hard_axis: Float64[np.ndarray, "64"]


class GaussianProblem(NamedTuple):
    """How far witnesses are shifted, and how many there are."""

    easy: float
    hard: float
    same_axis: bool
    witness_rate: float


class Drawn(NamedTuple):
    """Bags, and which of their instances are hard positives."""

    bags: BagSet
    hard: Bool[np.ndarray, "instances"]


def draw_bags(problem: GaussianProblem, seed: int) -> Drawn:
    """Draw the bags of one part; positive bags come first."""
    geometry = _geometry(same_axis=problem.same_axis)
    generator = np.random.default_rng(seed)
    features = np.empty((BAGS, INSTANCES, DIM), np.float32)
    truth, hard = np.zeros((BAGS, INSTANCES), np.int8), np.zeros((BAGS, INSTANCES), np.bool_)
    labels = (np.arange(BAGS) < BAGS // 2).astype(np.int64)
    witnesses = max(1, round(problem.witness_rate * INSTANCES))
    for bag, label in enumerate(labels):
        points = geometry.centers[generator.integers(0, 4, INSTANCES)]
        points = points + generator.standard_normal((INSTANCES, DIM))
        if label:
            chosen = generator.permutation(INSTANCES)[:witnesses]
            first, second = np.split(chosen, [(witnesses + 1) // 2])
            points[first] += problem.easy * geometry.easy_axis
            points[second] += problem.hard * geometry.hard_axis
            truth[bag, chosen], hard[bag, second] = 1, True
        features[bag] = points
    bags = make_bags(
        features.reshape(-1, DIM), sizes=[INSTANCES] * BAGS, labels=labels, tile_labels=truth.reshape(-1)
    )
    return Drawn(bags, hard.reshape(-1))


def log_likelihood_ratio(
    problem: GaussianProblem, features: Float[np.ndarray, "instances 64"]
) -> Float64[np.ndarray, "instances"]:
    """Witness against other, up to a constant: no score has a higher instance AUC on average.

    A unit-variance Gaussian shifted by d along u has the log-likelihood ratio d (x . u) - d^2 / 2 against
    the same one at home (the clusters' centers are orthogonal to u); two kinds of witnesses in equal shares
    have the mean of their ratios.
    """
    geometry = _geometry(same_axis=problem.same_axis)
    points = features.astype(np.float64)
    easy = problem.easy * (points @ geometry.easy_axis) - problem.easy**2 / 2
    hard = problem.hard * (points @ geometry.hard_axis) - problem.hard**2 / 2
    return np.asarray(np.logaddexp(easy, hard))


def _geometry(*, same_axis: bool) -> Geometry:
    axes, _ = np.linalg.qr(np.random.default_rng(GEOMETRY_SEED).standard_normal((DIM, DIM)))
    return Geometry(2.0 * axes[2:6], axes[0], axes[0 if same_axis else 1])
