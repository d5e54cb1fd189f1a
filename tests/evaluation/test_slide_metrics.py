import json

import numpy as np
import pytest

from wsi_kd.evaluation.schema import SLIDE_METRICS
from wsi_kd.evaluation.slide_metrics import SlidePlan, SlideScores, measure_slides


def _part(labels, scores, *, seed=0, fold=0, threshold=0.5, probabilities=None, cases=None):
    labels, scores = np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64)
    names = cases or [f"f{fold}c{index}" for index in range(len(labels))]
    slide_ids = tuple(f"f{fold}s{index}" for index in range(len(labels)))
    return SlideScores(
        seed, fold, slide_ids, tuple(names), labels, scores, scores >= threshold, probabilities, threshold
    )


def _flat(value, path=""):
    """Every number of nested records by its path; texts and None stand for themselves in the path."""
    if isinstance(value, dict):
        return {
            key: found for name, one in value.items() for key, found in _flat(one, f"{path}/{name}").items()
        }
    if isinstance(value, list):
        return {
            key: found for at, one in enumerate(value) for key, found in _flat(one, f"{path}/{at}").items()
        }
    if value is None or isinstance(value, str):
        return {f"{path}={value}": 0.0}
    return {path: value}


def _measure(parts):
    return measure_slides(parts, samples=100, confidence=0.95, seed=0).metrics


def test_pooled_seed_and_fold_values_by_hand():
    parts = [
        _part([0, 1], [0.2, 0.9], fold=0, threshold=0.5),
        _part([0, 1], [0.3, 0.1], fold=1, threshold=0.05),
    ]
    metrics = _measure(parts)
    assert [record["roc_auc"]["value"] for record in metrics["per_fold"]] == [1.0, 0.0]
    assert metrics["over_folds"]["roc_auc"] == {"mean": 0.5, "sd": pytest.approx(0.5**0.5), "count": 2}
    # pooled pairs (positive > negative): 0.9 beats both, 0.1 beats none: 2 of 4
    assert metrics["pooled"]["roc_auc"]["estimate"] == 0.5
    pooled = metrics["per_seed"][0]
    assert pooled["confusion"] == {
        "true_positive": 2,
        "false_positive": 1,
        "true_negative": 1,
        "false_negative": 0,
    }
    assert pooled["threshold"] is None
    assert metrics["per_fold"][1]["threshold"] == 0.05


def test_estimate_is_the_mean_over_seeds_and_lies_in_its_interval():
    generator = np.random.default_rng(0)
    labels = np.arange(30) % 2
    parts = [_part(labels, labels * 0.3 + generator.random(30), seed=seed) for seed in (0, 1, 2)]
    metrics = _measure(parts)
    for name in SLIDE_METRICS:
        pooled = metrics["pooled"][name]
        assert pooled["estimate"] == pytest.approx(np.mean([r[name]["value"] for r in metrics["per_seed"]]))
        assert pooled["low"] <= pooled["estimate"] <= pooled["high"]
        assert pooled["resamples"] == 100
    assert metrics["over_seeds"]["roc_auc"]["count"] == 3


def test_a_folds_interval_is_that_of_its_own_patients_alone():
    generator = np.random.default_rng(1)
    parts = [
        _part(np.arange(12) % 2, generator.random(12), seed=seed, fold=fold)
        for seed in (0, 1)
        for fold in (0, 1)
    ]
    metrics = _measure(parts)
    for at, fold in enumerate(metrics["folds"]):
        alone = _measure([part for part in parts if part.fold == at])
        assert fold == {"fold": at, "roc_auc": alone["pooled"]["roc_auc"]}
        assert fold["roc_auc"]["low"] < fold["roc_auc"]["estimate"] < fold["roc_auc"]["high"]


def test_perfect_scores_have_a_degenerate_interval():
    pooled = _measure([_part([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])])["pooled"]
    for name in SLIDE_METRICS:
        assert (pooled[name]["estimate"], pooled[name]["low"], pooled[name]["high"]) == (1.0, 1.0, 1.0)


def test_one_class_gives_reasons_and_valid_json():
    metrics = _measure([_part([1, 1], [0.2, 0.9])])
    assert metrics["pooled"]["roc_auc"]["estimate"] is None
    assert metrics["pooled"]["roc_auc"]["reason"] == "no negatives among 2"
    assert metrics["pooled"]["sensitivity"]["estimate"] == 0.5
    assert "bootstrap" in metrics["pooled"]["sensitivity"]["reason"]
    assert "NaN" not in json.dumps(metrics, allow_nan=False)


def test_same_scores_in_any_order_give_the_same_metrics():
    generator = np.random.default_rng(1)
    labels, scores = np.arange(20) % 2, generator.random(20)
    order = generator.permutation(20)
    names = [f"c{index // 2}" for index in range(20)]
    first = _measure([_part(labels, scores, cases=names)])
    second = _measure([_part(labels[order], scores[order], cases=[names[index] for index in order])])
    assert _flat(first) == pytest.approx(_flat(second), abs=1e-12, nan_ok=False)


def test_three_classes_use_the_macro_area():
    labels = np.array([0, 1, 2, 0, 1, 2])
    probabilities = np.eye(3)[labels] * 0.8 + 0.1
    metrics = _measure([_part(labels, probabilities[:, 1:].sum(axis=1), probabilities=probabilities)])
    assert metrics["pooled"]["roc_auc"]["estimate"] == 1.0
    assert metrics["pooled"]["roc_auc"]["low"] == 1.0
    swapped = probabilities[:, [0, 2, 1]]
    worse = _measure([_part(labels, swapped[:, 1:].sum(axis=1), probabilities=swapped)])
    # class 1 against the rest: its slides score 0.1, as class 0 does (half), below class 2's 0.9 (none): 1/4
    assert worse["pooled"]["roc_auc"]["estimate"] == pytest.approx((1.0 + 0.25 + 0.25) / 3)
    assert worse["per_seed"][0]["confusion"]["true_positive"] == 4


def _any_part(rng, *, size, classes, seed, fold):
    labels = rng.integers(0, rng.integers(1, classes + 1), size)
    scores = rng.random(size) if rng.random() < 0.5 else rng.integers(0, 4, size) / 3.0
    if size and rng.random() < 0.1:
        scores[0] = np.nan
    probabilities = rng.dirichlet(np.ones(classes), size).reshape(size, classes) if classes > 2 else None
    cases = [f"f{fold}c{index // 2}" for index in range(size)]
    part = _part(labels, scores, seed=seed, fold=fold, probabilities=probabilities, cases=cases)
    return part if rng.random() < 0.9 else part._replace(threshold=None, calls=np.zeros(size, dtype=bool))


@pytest.mark.parametrize("draw", range(40))
def test_whatever_the_slides_are_there_is_a_valid_record(draw):
    """None to eight slides a fold, any labels, ties, NaN, folds without validation: numbers or reasons."""
    rng = np.random.default_rng(draw)
    classes, seeds, folds = int(rng.integers(2, 4)), int(rng.integers(1, 3)), int(rng.integers(1, 4))
    models = [(seed, fold) for seed in range(seeds) for fold in range(folds)]
    size = int(rng.integers(0, 9))
    first = {fold: _any_part(rng, size=size, classes=classes, seed=0, fold=fold) for fold in range(folds)}
    test = [
        _any_part(rng, size=size, classes=classes, seed=seed, fold=fold)._replace(labels=first[fold].labels)
        for seed, fold in models
    ]
    validation = tuple(
        _any_part(rng, size=int(rng.integers(0, 7)), classes=classes, seed=seed, fold=fold)
        for seed, fold in models
        if rng.random() < 0.9
    )
    site = {name: str(rng.choice(["a", "b", ""])) for part in test for name in part.slide_ids}
    plan = SlidePlan(validation=validation, columns={"site": site})
    metrics = measure_slides(test, samples=100, confidence=0.95, seed=0, plan=plan).metrics
    json.dumps(metrics, allow_nan=False)
    for record in (*metrics["pooled"].values(), *metrics["subgroups"], *metrics["operating_points"]):
        shown = record.get("estimate", record.get("roc_auc", record.get("sensitivity")))
        estimate = shown["estimate"] if isinstance(shown, dict) else shown
        reason = record["reason"] or (shown["reason"] if isinstance(shown, dict) else "")
        assert estimate is not None or reason
    for one in metrics["operating_points"]:
        called = one["confusion"]
        assert (called is None) == bool(one["reason"])
        assert called is None or sum(called.values()) == metrics["per_seed"][0]["slides"]
