"""What a checkpoint learns from its validation slides: thresholds by slide, its limit by case."""

import numpy as np
import pytest
from exported_models import FEATURES, THREE, TWO, drawn_model

from wsi_kd.bags.datasets import BagSet
from wsi_kd.evaluation.classification import choose_threshold
from wsi_kd.inference.likeness import calibrate_limit
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.slide_prediction import SLIDE_SCORES, slide_scores
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_validation import facts_of_validation, score_validation

SETTINGS = TrainSettings(device="cpu", top_k=3)
TILES = (4, 7, 1, 9, 5, 6)
LABELS = (0, 1, 2, 0, 2, 0)


@pytest.fixture(scope="module")
def val() -> BagSet:
    """Six slides of three classes."""
    rng = np.random.default_rng(0)
    count = sum(TILES)
    return BagSet(
        slide_ids=tuple(f"s{index}" for index in range(len(TILES))),
        features=rng.normal(size=(count, FEATURES)).astype(np.float32),
        offsets=np.cumsum((0, *TILES)).astype(np.int64),
        labels=np.array(LABELS, np.int64),
        tile_labels=np.full(count, -1, np.int8),
        coords=np.zeros((count, 2), np.int64),
        header={},
    )


def test_each_slide_is_scored_alone_and_every_class_but_the_first_is_positive(val):
    model = drawn_model("gated_abmil", classes=THREE).model
    scored = score_validation(model, val, settings=SETTINGS)
    assert scored.labels.tolist() == [0, 1, 1, 0, 1, 0]
    for index in range(len(TILES)):
        tiles = val.features[val.offsets[index] : val.offsets[index + 1]]
        alone = predict_bag(model, tiles, student_pooling=SETTINGS.student_pooling, top_k=3, device="cpu")
        assert {name: values[index] for name, values in scored.scores.items()} == slide_scores(alone)
        assert scored.distances[index] == alone.feature_distance


def test_thresholds_and_limit_follow_from_slides_and_cases(val):
    model = drawn_model("gated_abmil", classes=THREE).model
    scored = score_validation(model, val, settings=SETTINGS)
    alone = {slide_id: slide_id for slide_id in val.slide_ids}
    found = facts_of_validation(model, val, case_of=alone, settings=SETTINGS)
    assert found["thresholds"] == {
        name: choose_threshold(scored.labels, scored.scores[name], rule="youden", min_sensitivity=0.95)
        for name in SLIDE_SCORES
    }
    expected = calibrate_limit(scored.distances, list(alone))
    assert found["out_of_distribution"] == expected._asdict()
    assert (expected.rule, expected.cases) == ("lognormal", 6)
    pairs = {slide_id: f"case{index // 2}" for index, slide_id in enumerate(val.slide_ids)}
    of_cases = facts_of_validation(model, val, case_of=pairs, settings=SETTINGS)["out_of_distribution"]
    assert (of_cases["rule"], of_cases["cases"], of_cases["slides"]) == ("constant", 3, 6)


def test_a_teacher_alone_has_no_threshold_of_a_student(val):
    model = drawn_model("gated_abmil", classes=TWO, with_student=False).model
    binary = val._replace(labels=(val.labels > 0).astype(np.int64))
    alone = {slide_id: slide_id for slide_id in val.slide_ids}
    found = facts_of_validation(model, binary, case_of=alone, settings=SETTINGS)["thresholds"]
    assert found["teacher"] is not None
    assert {found[name] for name in SLIDE_SCORES if name != "teacher"} == {None}
