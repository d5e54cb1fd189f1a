import numpy as np
import pytest

from evaluate_time import draw_scores, draw_tiles, measure_detections, measure_parts
from wsi_kd.evaluation.slide_metrics import measure_slides


def test_the_drawn_scores_tell_the_classes_apart_and_no_slide_is_validated_on_where_it_is_tested():
    drawn = draw_scores(600, seeds=2, folds=3)
    metrics = measure_slides(drawn.test, samples=100, confidence=0.95, seed=0, plan=drawn.plan).metrics
    assert metrics["pooled"]["roc_auc"]["estimate"] == pytest.approx(0.9, abs=0.03)
    assert metrics["per_seed"][0]["slides"] == 600
    assert {one["column"] for one in metrics["subgroups"]} == {"site", "scanner"}
    for test, validation in zip(drawn.test, drawn.plan.validation, strict=True):
        assert (test.seed, test.fold) == (validation.seed, validation.fold)
        assert not set(test.slide_ids) & set(validation.slide_ids)


def test_a_drawn_slide_holds_a_lesion_and_its_tiles_do_not_overlap():
    coords, labels, scores = draw_tiles(2500, np.random.default_rng(0))
    assert len(np.unique(coords, axis=0)) == 2500
    assert 100 < labels.sum() < 200
    assert all(values[labels == 1].mean() > values[labels == 0].mean() + 0.5 for values in scores.values())


def test_every_part_is_timed_as_a_share_of_the_whole():
    rows = list(measure_parts(draw_scores(60, seeds=1, folds=3), resamples=100))
    assert rows[0] == {"part": "slide score", "seconds": rows[0]["seconds"], "share": 1.0}
    for row in rows[1:]:
        assert row["share"] == pytest.approx(row["seconds"] / rows[0]["seconds"])
    detect, score = measure_detections(400, slides=4, seeds=1, resamples=100)
    assert detect["seconds_per_1000"] == pytest.approx(detect["seconds"] * 2.5)
    assert score["seconds"] > 0
