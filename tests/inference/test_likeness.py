import math

import numpy as np
import pytest
import torch

from wsi_kd.inference.likeness import (
    UNLIKE,
    Limit,
    calibrate_limit,
    is_out_of_distribution,
    limit_of,
    out_of_distribution_note,
    out_of_distribution_record,
)
from wsi_kd.inference.predict import predict_bag
from wsi_kd.mil import weno
from wsi_kd.mil.registry import create_model

SHAPE = {"feature_dim": 8, "classes": 2, "hidden_dim": 4, "attention_dim": 4, "dropout": 0.0}
LIMIT = Limit(1.5, "lognormal", 0.05, 6, 8, "val")


@pytest.fixture
def model():
    model = create_model("gated_abmil", **SHAPE, student_hidden_dim=0, with_student=True)
    model.scaling.fit(mean=torch.full((8,), 5.0), deviation=torch.full((8,), 2.0))
    return model


def distance(model, features):
    prediction = predict_bag(model, features, student_pooling="max", top_k=1, device="cpu")
    return prediction.feature_distance


def limit(distances, cases=None, **changes):
    return calibrate_limit(distances, cases or [str(index) for index in range(len(distances))], **changes)


def test_distance_is_the_median_of_the_tiles_root_mean_square_z(model):
    """Tiles at z = 1, 3 and 10 in every feature: the median is 3."""
    features = np.float32(5.0 + 2.0 * np.array([1.0, 3.0, 10.0])[:, None] * np.ones((3, 8)))
    assert distance(model, features) == pytest.approx(3.0, abs=1e-6)


def test_tiles_like_the_training_are_near_one(model):
    features = np.random.default_rng(0).normal(5.0, 2.0, (500, 8)).astype(np.float32)
    assert 0.8 < distance(model, features) < 1.1


def test_blocks_of_a_large_slide_change_no_distance(model, monkeypatch):
    features = torch.from_numpy(np.random.default_rng(2).normal(5.0, 2.0, (25, 8)).astype(np.float32))
    whole = model.distances(features)
    monkeypatch.setattr(weno, "ROWS_AT_ONCE", 7)
    torch.testing.assert_close(model.distances(features), whole, rtol=1e-6, atol=1e-6)


def test_flag_note_and_record_tell_the_same(model):
    far = distance(model, np.full((4, 8), 15.0, np.float32))
    assert is_out_of_distribution(far, LIMIT)
    assert out_of_distribution_note(far, LIMIT).startswith(
        "unlike the training slides (feature distance 5.00, limit 1.50)"
    )
    record = out_of_distribution_record(far, LIMIT)
    assert (record["flag"], record["feature_distance"], record["limit"]) == (True, pytest.approx(5.0), 1.5)
    assert (record["rule"], record["cases"], record["chosen_on"]) == ("lognormal", 6, "val")
    assert not is_out_of_distribution(1.5, LIMIT)
    assert out_of_distribution_note(1.5, LIMIT) == ""


def test_enough_cases_take_an_order_statistic():
    """Of 39 cases the k = ceil(40 x 0.95) = 38th smallest; of 18 none is large enough."""
    distances = [1.0 + index / 100 for index in range(39)]
    assert limit(distances[::-1]) == Limit(1.37, "conformal", 0.05, 39, 39, "val")
    assert limit(distances[:19]).limit == 1.18
    assert limit(distances[:18]).rule == "lognormal"
    assert limit(distances[:9], false_flags=0.1).rule == "conformal"


def test_few_cases_take_the_prediction_bound_of_their_logarithms():
    """Logarithms -0.2, -0.1, 0, 0.1, 0.2: mean 0, deviation sqrt(0.025), t(4; 0.95) = 2.131847."""
    found = limit([math.exp(value / 10) for value in (-2, -1, 0, 1, 2)])
    assert found.rule == "lognormal"
    assert math.log(found.limit) == pytest.approx(2.131847 * math.sqrt(0.025) * math.sqrt(1.2), abs=1e-6)


def test_slides_of_a_case_count_once_with_the_largest():
    once = limit([0.8, 0.9, 1.0, 1.1, 1.2])
    twice = limit([0.8, 0.7, 0.9, 0.2, 1.0, 1.1, 1.2], ["a", "a", "b", "b", "c", "d", "e"])
    assert twice == once._replace(slides=7)


def test_too_few_cases_leave_the_constant():
    assert limit([0.9] * 4) == Limit(UNLIKE, "constant", None, 4, 4, "val")
    assert limit([0.9] * 9, ["one", "two", "three"] * 3).rule == "constant"
    assert limit([0.0, 0.9, 1.0, 1.0, 1.1]).rule == "constant"
    assert limit([0.0] * 20).rule == "constant"  # a share of zero is no number
    assert limit([]).rule == "constant"


@pytest.mark.parametrize(
    ("cases", "rule", "expected"),
    [
        (6, "lognormal", 0.05),
        (12, "lognormal", 0.05),
        (19, "conformal", 0.05),
        (30, "conformal", 1 - 30 / 31),
        (60, "conformal", 1 - 58 / 61),
    ],
)
def test_the_share_of_false_flags_is_what_the_rule_says(cases, rule, expected):
    """20,000 trainings, each asked about one new case; a binomial deviation is at most 0.0016."""
    generator = np.random.default_rng(cases)
    drawn = np.exp(0.15 * generator.standard_normal((20_000, cases + 1)))
    names = [str(index) for index in range(cases)]
    limits = [calibrate_limit(row[:-1].tolist(), names) for row in drawn]
    assert {found.rule for found in limits} == {rule}
    flagged = np.mean(
        [is_out_of_distribution(float(row[-1]), found) for row, found in zip(drawn, limits, strict=True)]
    )
    assert flagged == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))


def test_conformal_limits_hold_for_any_distribution_and_for_cases_of_several_slides():
    """Heavy tails, one to four slides a case: the 39th of 40 cases, so 2 in 41 have a slide beyond it."""
    generator = np.random.default_rng(3)
    flagged = 0
    for _ in range(4000):
        counts = generator.integers(1, 5, 41)
        owner = np.repeat(np.arange(41), counts)
        distances = generator.pareto(1.5, 41)[owner] + generator.random(len(owner))
        known = owner < 40
        found = calibrate_limit(distances[known].tolist(), [str(index) for index in owner[known]])
        assert (found.rule, found.cases) == ("conformal", 40)
        flagged += any(is_out_of_distribution(value, found) for value in distances[~known].tolist())
    share = 1 - 39 / 41
    assert flagged / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_a_header_gives_its_limit_back():
    assert limit_of({"out_of_distribution": LIMIT._asdict()}) == LIMIT
