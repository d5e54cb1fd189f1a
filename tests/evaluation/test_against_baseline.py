import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from wsi_kd.evaluation.against_baseline import MeasuredRecipe, compare_recipes
from wsi_kd.evaluation.comparison import delong_test
from wsi_kd.evaluation.localization import TileScores, measure_tiles
from wsi_kd.evaluation.slide_metrics import SlideScores, measure_slides

BOOTSTRAP = {"samples": 200, "confidence": 0.95, "seed": 0}
LABELS = np.arange(40) % 2


def _slides(scores, *, fold_order=(0, 1), probabilities=None, labels=LABELS):
    """One row of `scores` a seed; slides 0-19 are fold 0's test part; a patient has two slides."""
    parts = []
    for seed, row in enumerate(scores):
        for fold in fold_order:
            chosen = slice(20 * fold, 20 * fold + 20)
            parts.append(
                SlideScores(
                    seed=seed,
                    fold=fold,
                    slide_ids=tuple(f"s{index}" for index in range(40)[chosen]),
                    case_ids=tuple(f"c{index // 2}" for index in range(40)[chosen]),
                    labels=labels[chosen],
                    scores=row[chosen],
                    calls=row[chosen] >= 0.5,
                    class_probabilities=None if probabilities is None else probabilities[chosen],
                    threshold=0.5,
                )
            )
    return measure_slides(parts, **BOOTSTRAP)


def _tiles(scores, labels):
    parts = [
        TileScores(
            seed=seed,
            fold=0,
            scores=row,
            labels=labels,
            slide=np.repeat(np.arange(10), 20),
            case_ids=tuple(f"c{index}" for index in range(10)),
            positive_slides=np.arange(10) % 2 == 0,
        )
        for seed, row in enumerate(scores)
    ]
    return measure_tiles(parts, convention="", **BOOTSTRAP)


def _scores(seeds, seed=0):
    return np.random.default_rng(seed).random((seeds, 40)) + 0.4 * LABELS


def _compare(recipes):
    return compare_recipes(recipes, baseline="abmil", confidence=0.95)


def test_the_difference_of_areas_is_delongs_over_seeds_with_patients_taken_together():
    first, second = _scores(2, seed=1), _scores(3, seed=2)
    found = _compare(
        {
            "abmil": MeasuredRecipe({"teacher": _slides(second, fold_order=(1, 0))}, {}),
            "weno": MeasuredRecipe({"student": _slides(first)}, {}),
        }
    )
    (record,) = found["slides"]
    assert (record["recipe"], record["score"]) == ("weno", "student")
    assert (record["against_recipe"], record["against_score"]) == ("abmil", "teacher")
    area = record["metrics"]["roc_auc"]
    expected = delong_test(LABELS == 1, first, second, cases=np.arange(40) // 2)
    assert area["test"] == "DeLong"
    assert area["estimate"] == pytest.approx(expected.difference, abs=1e-12)
    assert area["p_value"] == pytest.approx(expected.p_value, abs=1e-12)
    assert (area["low"], area["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    each = [roc_auc_score(LABELS, first[s]) - roc_auc_score(LABELS, second[s]) for s in (0, 1)]
    assert [one["difference"] for one in area["per_seed"]] == pytest.approx(each, abs=1e-12)
    assert area["over_seeds"] == {
        "mean": pytest.approx(np.mean(each)),
        "sd": pytest.approx(np.std(each, ddof=1)),
        "count": 2,
    }
    precision = record["metrics"]["average_precision"]
    means = [np.mean([average_precision_score(LABELS, row) for row in rows]) for rows in (first, second)]
    assert precision["test"] == "bootstrap"
    assert precision["estimate"] == pytest.approx(means[0] - means[1], abs=1e-12)
    assert precision["low"] < precision["estimate"] < precision["high"]


def test_the_same_scores_differ_in_nothing():
    measured = MeasuredRecipe({"teacher": _slides(_scores(2))}, {})
    (record,) = _compare({"abmil": measured, "weno": measured})["slides"]
    for difference in record["metrics"].values():
        assert (difference["estimate"], difference["low"], difference["high"]) == (0.0, 0.0, 0.0)
        assert difference["p_value"] == 1.0


def test_every_tile_score_meets_the_baselines_evidence_and_the_student_its_own_teachers():
    generator = np.random.default_rng(3)
    labels = (generator.random(200) < 0.3) & (np.repeat(np.arange(10), 20) % 2 == 0)
    weak, strong = (_tiles(generator.random((2, 200)) + gain * labels, labels) for gain in (0.2, 1.5))
    slides = {"teacher": _slides(_scores(2))}
    found = _compare(
        {
            "abmil": MeasuredRecipe(slides, {"attention": weak, "evidence": weak}),
            "weno": MeasuredRecipe(slides, {"evidence": weak, "student": strong}),
        }
    )["tiles"]
    assert [(one["recipe"], one["score"], one["against_recipe"], one["against_score"]) for one in found] == [
        ("weno", "evidence", "abmil", "evidence"),
        ("weno", "student", "abmil", "evidence"),
        ("weno", "student", "weno", "evidence"),
    ]
    gain = found[1]["metrics"]["roc_auc_within_slide"]
    values = [side.metrics["pooled"]["roc_auc_within_slide"]["estimate"] for side in (strong, weak)]
    assert gain["estimate"] == pytest.approx(values[0] - values[1])
    assert gain["p_value"] == pytest.approx(2 / 201)  # none of 200 resamples lies at or below 0
    assert found[0]["metrics"]["roc_auc"]["p_value"] == 1.0


def test_the_macro_area_of_three_classes_is_compared_by_the_bootstrap():
    labels = np.arange(40) % 3
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    good = (probabilities + np.eye(3)[labels]) / 2
    sides = [
        MeasuredRecipe(
            {"teacher": _slides(rows[None, :, 1:].sum(axis=2), probabilities=rows, labels=labels)}, {}
        )
        for rows in (probabilities, good)
    ]
    (record,) = _compare({"abmil": sides[0], "weno": sides[1]})["slides"]
    area = record["metrics"]["roc_auc"]
    expected = [
        np.mean([roc_auc_score(labels == c, rows[:, c]) for c in range(3)]) for rows in (good, probabilities)
    ]
    assert area["test"] == "bootstrap"
    assert area["estimate"] == pytest.approx(expected[0] - expected[1])
    assert area["p_value"] < 0.05


def test_what_cannot_be_compared_says_why():
    measured = MeasuredRecipe({"teacher": _slides(_scores(1))}, {})
    assert "abmil (evaluate.baseline) is not among" in _compare({"weno": measured})["reason"]
    assert _compare({"abmil": measured})["reason"] == "no recipe but abmil was evaluated"
    labels = np.zeros(200, dtype=bool)
    labels[:5] = True
    other = labels.copy()
    other[5] = True
    scores = np.random.default_rng(0).random((1, 200))
    recipes = {
        "abmil": measured._replace(tiles={"evidence": _tiles(scores, labels)}),
        "weno": measured._replace(tiles={"evidence": _tiles(scores, other)}),
    }
    (record,) = _compare(recipes)["tiles"]
    assert record["metrics"]["roc_auc"]["reason"].startswith("not the same test tiles")
    assert record["metrics"]["roc_auc"]["p_value"] is None


def test_without_resamples_the_difference_stands_without_interval():
    labels = np.zeros(200, dtype=bool)
    labels[:5] = True
    measured = MeasuredRecipe({"teacher": _slides(_scores(1), labels=np.ones(40, dtype=np.int64))}, {})
    (record,) = _compare({"abmil": measured, "weno": measured})["slides"]
    assert record["metrics"]["roc_auc"]["reason"] == "0 cases with negative slides; a test needs at least 2"
    assert record["metrics"]["average_precision"]["reason"] == "no negatives among 40"


def test_slides_tested_in_several_folds_keep_the_score_of_each():
    """Given splits may overlap: the difference is that of the tables, not of the last fold's scores."""
    first, second = np.random.default_rng(3).random((2, 1, 40)) + 0.4 * LABELS
    sides = []
    for scores in (first, second):
        parts = list(_slides(scores).pooled[0:1])
        again = parts[0]._replace(fold=1, scores=parts[0].scores[::-1].copy())
        sides.append(measure_slides([parts[0]._replace(fold=0), again], **BOOTSTRAP))
    recipes = {
        name: MeasuredRecipe({"teacher": side}, {})
        for name, side in zip(("abmil", "weno"), sides, strict=True)
    }
    found = _compare(recipes)["slides"][0]["metrics"]["roc_auc"]["estimate"]
    areas = [side.metrics["pooled"]["roc_auc"]["estimate"] for side in sides]
    assert found == pytest.approx(areas[1] - areas[0], abs=1e-12)
