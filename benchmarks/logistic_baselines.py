"""Baselines without attention that could win: logistic regressions, and the true likelihood ratio.

| name | learns | answers for a bag with |
|---|---|---|
| `instance_logistic` | every instance has its bag's label | its log-odds, pooled as a student's |
| `bag_mean_logistic` | the bag's mean vector has its label | itself |
| `supervised_logistic` | the truth of instances: what a linear rule on the features can reach | the same |
| `likelihood_ratio` | nothing: the truth of drawn bags, the ceiling of all | the same |

Features are standardized by the training part; the weight of the penalty is chosen by log loss on validation.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from bag_parts import Parts
from experiment_scores import Pooling, Scored, pool_bags
from gaussian_bags import GaussianProblem, log_likelihood_ratio
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.errors import BadInput, unknown_name

PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""scikit-learn's C: the smaller, the stronger the penalty."""
MAX_ITERATIONS: Final = 2_000

BASELINES: Final = ("instance_logistic", "bag_mean_logistic", "supervised_logistic", "likelihood_ratio")

Vectors = Float64[np.ndarray, "rows features"]
Targets = Int64[np.ndarray, "rows"]


def fit_baseline(
    name: str, parts: Parts, *, problem: GaussianProblem | None, pooling: Pooling
) -> Callable[[BagSet], Scored]:
    """Fit a baseline on the training part; return what scores bags. `problem`: the truth of drawn bags.

    Raises:
        BadInput: an unknown name, or truth that is not known where the baseline needs it.
    """
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if name == "likelihood_ratio":
        if problem is None:
            raise BadInput("baseline likelihood_ratio knows Gaussian bags only; remove it from baselines")
        return lambda bags: _scored(log_likelihood_ratio(problem, bags.features), bags, pooling)
    prepare = {
        "instance_logistic": _instances,
        "bag_mean_logistic": _bag_means,
        "supervised_logistic": _known_instances,
    }[name]
    model = _fit(prepare(parts.train), prepare(parts.val))
    if name == "bag_mean_logistic":
        return lambda bags: Scored({"teacher": model.decision_function(_bag_means(bags)[0])}, {}, "teacher")
    return lambda bags: _scored(model.decision_function(_instances(bags)[0]), bags, pooling)


def _fit(train: tuple[Vectors, Targets], val: tuple[Vectors, Targets]) -> Pipeline:
    """Fit with each weight of the penalty; return the fit of the lowest log loss on validation."""
    fits = []
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=MAX_ITERATIONS))
        model.fit(*train)
        fits.append((log_loss(val[1], model.predict_proba(val[0]), labels=[0, 1]), model))
    return min(fits, key=lambda fit: fit[0])[1]


def _instances(bags: BagSet) -> tuple[Vectors, Targets]:
    return bags.features.astype(np.float64), np.repeat(bags.labels, np.diff(bags.offsets))


def _known_instances(bags: BagSet) -> tuple[Vectors, Targets]:
    known = bags.tile_labels >= 0
    if not known.any():
        raise BadInput("baseline supervised_logistic needs the truth of instances; remove it from baselines")
    return bags.features[known].astype(np.float64), bags.tile_labels[known].astype(np.int64)


def _bag_means(bags: BagSet) -> tuple[Vectors, Targets]:
    sums = np.add.reduceat(bags.features.astype(np.float64), bags.offsets[:-1])
    return sums / np.diff(bags.offsets)[:, None], bags.labels


def _scored(log_odds: Float64[np.ndarray, "instances"], bags: BagSet, pooling: Pooling) -> Scored:
    pooled = pool_bags(log_odds, bags.offsets, top_k=pooling.top_k)
    return Scored(pooled, {"student": log_odds}, f"student_{pooling.student_pooling}")
