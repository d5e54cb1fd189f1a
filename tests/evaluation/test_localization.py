import numpy as np
import pytest

from wsi_kd.evaluation.froc import SlideDetections
from wsi_kd.evaluation.localization import TileScores, instance_record, measure_tiles, summarize_tiles


def _tiles(scores, labels, slide, *, positive, seed=0, fold=0):
    return TileScores(
        seed=seed,
        fold=fold,
        scores=np.array(scores, dtype=np.float64),
        labels=np.array(labels, dtype=bool),
        slide=np.array(slide, dtype=np.int64),
        case_ids=tuple(f"case{index}" for index in range(len(positive))),
        positive_slides=np.array(positive, dtype=bool),
    )


# slide 0 is positive with tiles 0.9+, 0.2-, 0.4+; slide 1 is negative with 0.3-, 0.8-
PART = _tiles([0.9, 0.2, 0.4, 0.3, 0.8], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1], positive=[True, False])


def test_all_tiles_positive_slides_and_within_slide_by_hand():
    record = instance_record(PART)
    assert record["roc_auc"]["value"] == pytest.approx(5 / 6)  # only 0.4 < 0.8 is wrong
    assert record["roc_auc_positive_slides"]["value"] == 1.0
    assert record["average_precision_positive_slides"]["value"] == 1.0
    assert record["average_precision"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert record["roc_auc_within_slide"]["value"] == 1.0
    assert (record["tiles"], record["positives"], record["slides"]) == (5, 2, 2)


def test_within_slide_ignores_any_rescaling_of_a_slide():
    slide = [0, 0, 0, 1, 1, 1, 1]
    labels = [1, 0, 0, 0, 1, 1, 0]
    scores = np.array([0.5, 0.6, 0.1, 0.2, 0.3, 0.1, 0.05])
    part = _tiles(scores, labels, slide, positive=[True, True])
    scaled = part._replace(scores=np.where(np.array(slide) == 0, 1000 * scores, scores))
    # slide 0: 0.5 beats 0.1 only: 1/2; slide 1: 0.3 beats both, 0.1 beats 0.05: 3/4
    assert instance_record(scaled)["roc_auc_within_slide"]["value"] == 0.625
    assert instance_record(scaled)["roc_auc"] != instance_record(part)["roc_auc"]


def test_tile_order_does_not_matter():
    order = np.array([4, 0, 3, 1, 2])
    shuffled = PART._replace(scores=PART.scores[order], labels=PART.labels[order], slide=PART.slide[order])
    assert instance_record(shuffled) == instance_record(PART)


def test_no_labels_of_one_kind_give_a_reason():
    record = instance_record(_tiles([0.1, 0.2], [0, 0], [0, 0], positive=[False]))
    assert record["roc_auc"] == {"value": None, "reason": "no positives among 2"}
    assert record["roc_auc_within_slide"]["reason"] == "no slide has tiles of both labels"


def test_no_slide_with_both_labels_leaves_an_area_without_an_interval_and_says_why():
    """Two positive tiles in one slide, two negative ones in the other: area 1, no resample is whole."""
    part = _tiles([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], [0, 0, 1, 1], positive=[True, False])
    pooled = measure_tiles([part], convention="", samples=100, confidence=0.95, seed=0).metrics["pooled"]
    assert (pooled["roc_auc"]["estimate"], pooled["roc_auc"]["low"]) == (1.0, None)
    assert "of tiles both labels and a slide with both" in pooled["roc_auc"]["reason"]


def _random_part(seed: int, fold: int):
    generator = np.random.default_rng(10 * seed + fold)
    slide = np.repeat(np.arange(8), 50)
    positive = np.arange(8) % 2 == 0
    labels = (generator.random(400) < 0.2) & positive[slide]
    part = _tiles(labels + generator.normal(size=400), labels, slide, positive=positive, seed=seed, fold=fold)
    return part._replace(case_ids=tuple(f"fold{fold}case{index}" for index in range(8)))


def test_intervals_hold_the_estimates_and_are_repeatable():
    parts = [_random_part(seed, fold) for seed in (0, 1) for fold in (0, 1)]
    metrics = measure_tiles(parts, convention="raw", samples=200, confidence=0.95, seed=0).metrics
    for name, pooled in metrics["pooled"].items():
        assert pooled["low"] < pooled["estimate"] < pooled["high"], name
        per_seed = [record[name]["value"] for record in metrics["per_seed"]]
        assert pooled["estimate"] == pytest.approx(np.mean(per_seed))
    assert len(metrics["per_fold"]) == 4
    assert metrics["per_seed"][0]["slides"] == 16
    for at, fold in enumerate(metrics["folds"]):
        of_fold = [part for part in parts if part.fold == at]
        alone = measure_tiles(of_fold, convention="raw", samples=200, confidence=0.95, seed=0).metrics
        assert fold == {"fold": at, "roc_auc": alone["pooled"]["roc_auc"]}
    assert metrics == measure_tiles(parts, convention="raw", samples=200, confidence=0.95, seed=0).metrics


def test_within_slide_interval_weighs_slides_by_their_cases():
    slide = [0, 0, 1, 1, 2, 2]
    part = _tiles([1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0], slide, positive=[True] * 3)  # areas 1, 0, 1
    metrics = measure_tiles([part], convention="raw", samples=300, confidence=0.5, seed=0).metrics
    pooled = metrics["pooled"]["roc_auc_within_slide"]
    assert pooled["estimate"] == pytest.approx(2 / 3)
    # each resample draws 3 cases: share of slide 1 is k/3, k ~ Binomial(3, 1/3); quartiles of 1 - k/3: 1/3, 1
    assert (pooled["low"], pooled["high"]) == (pytest.approx(1 / 3), pytest.approx(1.0))


def test_chance_is_the_share_of_positives_where_each_measure_looks():
    # slide 0: 2 of 3 positive; slide 1, negative: 0 of 2
    metrics = measure_tiles([PART], convention="raw", samples=100, confidence=0.95, seed=0).metrics
    assert metrics["chance"] == {
        "average_precision": pytest.approx(2 / 5),
        "average_precision_positive_slides": pytest.approx(2 / 3),
        "average_precision_within_slide": pytest.approx(2 / 3),
    }


def test_resamples_do_not_depend_on_the_score_so_that_scores_can_be_paired():
    part = _random_part(0, 0)
    negated = part._replace(scores=-part.scores)
    first, second = (
        measure_tiles([one], convention="raw", samples=100, confidence=0.95, seed=0).resampled[0]
        for one in (part, negated)
    )
    for name in ("roc_auc", "roc_auc_positive_slides", "roc_auc_within_slide"):
        assert first[name] + second[name] == pytest.approx(np.ones(100), abs=1e-12)


def test_a_tile_score_that_is_no_number_is_told():
    strange = PART._replace(scores=np.array([0.9, np.nan, 0.4, 0.3, 0.8]))
    metrics = measure_tiles([strange], convention="raw", samples=100, confidence=0.95, seed=0).metrics
    assert {one["reason"] for one in metrics["pooled"].values()} == {"1 of 5 tile scores are not finite"}
    assert metrics["froc"]["reason"] == "1 of 5 tile scores are not finite"


def test_detections_of_all_folds_make_one_froc_and_the_summary_has_none():
    hit = SlideDetections(np.zeros(0), np.array([0.9]), 1)
    missed = SlideDetections(np.array([0.5]), np.array([-np.inf]), 1)
    clean = SlideDetections(np.zeros(0), np.zeros(0), 0)
    parts = [
        PART._replace(detections=(hit, clean), case_ids=("a", "b")),
        PART._replace(fold=1, detections=(missed, clean), case_ids=("c", "d")),
    ]
    arguments = {"convention": "raw", "samples": 100, "confidence": 0.95, "seed": 0}
    froc = measure_tiles(parts, **arguments).metrics["froc"]
    assert (froc["lesions"], froc["slides"], froc["sensitivity"]) == (2, 4, [0.5] * 6)
    assert froc["score"]["estimate"] == 0.5
    assert froc["low"][0] < 0.5 < froc["high"][0]
    summary = summarize_tiles(parts, **arguments)
    assert summary == {
        key: value
        for key, value in measure_tiles(parts, **arguments).metrics.items()
        if key not in {"folds", "froc"}
    }
    without = measure_tiles([parts[0], parts[1]._replace(detections=())], **arguments).metrics["froc"]
    assert without["reason"] == "the tiles were read without their positions"
