import json

import numpy as np
import pytest

from wsi_kd.evaluation.schema import SLIDE_METRICS
from wsi_kd.evaluation.slide_metrics import SlideScores, measure_slides


def _part(labels, scores, *, seed=0, fold=0, threshold=0.5, probabilities=None, cases=None):
    labels, scores = np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64)
    names = cases or [f"f{fold}c{index}" for index in range(len(labels))]
    slide_ids = tuple(f"f{fold}s{index}" for index in range(len(labels)))
    return SlideScores(
        seed, fold, slide_ids, tuple(names), labels, scores, scores >= threshold, probabilities, threshold
    )


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
    assert first == second


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
