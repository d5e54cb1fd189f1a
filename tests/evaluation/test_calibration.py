"""Calibration against hand-worked values, other fitting programs and drawn data whose truth is known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from wsi_kd.evaluation.calibration import (
    calibration_error,
    equal_mass_bins,
    error_if_calibrated,
    fit_intercept,
    fit_slope,
    fit_temperature,
    log_losses,
    logit,
    scale,
    squared_errors,
    wilson_interval,
)
from wsi_kd.evaluation.calibration_record import calibrate
from wsi_kd.evaluation.sampled_scores import sample_scores
from wsi_kd.evaluation.scored_slides import SlideScores


def drawn(count, *, sharpness=1.0, shift=0.0, seed=0):
    """Labels that follow sigmoid(z), and probabilities sigmoid(sharpness z - shift)."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.0, 1.5, count)
    return rng.random(count) < expit(odds), expit(sharpness * odds - shift)


def part(labels, scores, *, seed=0, fold=0, cases=None):
    names = tuple(f"f{fold}s{index}" for index in range(len(labels)))
    scores = np.array(scores, dtype=np.float64)
    cases = names if cases is None else cases
    return SlideScores(seed, fold, names, cases, np.array(labels, np.int64), scores, scores >= 0.5, None, 0.5)


def sampled(*parts, samples=200):
    return sample_scores(parts, samples=samples, confidence=0.95, seed=0)


def test_losses_by_hand_and_by_scikit_learn():
    labels, probabilities = np.array([True, False]), np.array([0.8, 0.4])
    assert squared_errors(labels, probabilities) == pytest.approx([0.04, 0.16])
    assert log_losses(labels, probabilities) == pytest.approx([-np.log(0.8), -np.log(0.6)])
    labels, probabilities = drawn(200)
    assert squared_errors(labels, probabilities).mean() == pytest.approx(
        brier_score_loss(labels, probabilities)
    )
    assert log_losses(labels, probabilities).mean() == pytest.approx(log_loss(labels, probabilities))


def test_a_certain_and_wrong_call_costs_a_finite_loss():
    assert log_losses(np.array([True]), np.array([0.0])) == pytest.approx([-np.log(1e-12)])
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_ten_bins_of_equal_mass_fewer_for_few_slides_and_ties_share_one():
    assert np.bincount(equal_mass_bins(np.linspace(0, 1, 200))).tolist() == [20] * 10
    assert np.bincount(equal_mass_bins(np.linspace(0, 1, 45))).tolist() == [11, 11, 11, 12]
    assert equal_mass_bins(np.array([0.1, 0.2, 0.3])).max() == 1
    assert len(set(equal_mass_bins(np.array([0.5] * 60)))) == 1
    assert equal_mass_bins(np.array([0.3])).tolist() == [1]


def test_the_expected_calibration_error_by_hand():
    labels, probabilities = np.array([False, True, True, True]), np.array([0.1, 0.3, 0.6, 0.8])
    # bins {0.1, 0.3} and {0.6, 0.8}: |0.2 - 0.5| and |0.7 - 1| at a weight of a half each
    assert calibration_error(labels, probabilities, np.array([0, 0, 1, 1])) == pytest.approx(0.3)


def test_chance_alone_makes_an_error_that_falls_with_the_number_of_slides():
    # two bins of ten slides at 0.5: the mean of |Binomial(10, 1/2) / 10 - 1/2| is 0.1230
    halves = np.array([0.5] * 20)
    assert error_if_calibrated(halves, np.repeat([0, 1], 10)) == pytest.approx(0.123, abs=0.012)
    _, many = drawn(4000)
    assert error_if_calibrated(many, equal_mass_bins(many)) < 0.03


def test_the_temperature_is_the_one_with_the_least_loss():
    labels, probabilities = drawn(400, sharpness=2.5)
    found = fit_temperature(labels, probabilities).value
    best = minimize_scalar(lambda t: log_losses(labels, scale(probabilities, t)).mean(), bounds=(0.1, 10))
    assert found == pytest.approx(best.x, abs=1e-4)
    assert found == pytest.approx(2.5, abs=0.5)  # the probabilities were made 2.5 times too sharp
    assert scale(scale(probabilities, 3.0), 1 / 3.0) == pytest.approx(probabilities)


@pytest.mark.parametrize(
    ("labels", "probabilities", "told"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9], "all 4 validation slides are on the right side of 0.5"),
        ([1, 1, 0, 0], [0.1, 0.4, 0.6, 0.9], "higher scores do not mean positive"),
        ([0, 1], [0.5, 0.5], "higher scores do not mean positive"),
        ([], [], "no validation slides with a label"),
        ([0, 1], [np.nan, 0.5], "not finite"),
        ([1, 1], [0.4, 0.9], "no negatives among 2 validation slides"),
        ([0, 0, 0], [0.4, 0.9, 0.2], "no positives among 3 validation slides"),
    ],
)
def test_no_temperature_where_none_can_be_chosen(labels, probabilities, told):
    found = fit_temperature(np.array(labels, dtype=bool), np.array(probabilities, dtype=np.float64))
    assert found.value is None
    assert told in found.reason


def test_slope_and_intercept_are_those_of_logistic_regression():
    labels, probabilities = drawn(300, sharpness=2.0, shift=0.7)
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000)
    model.fit(logit(probabilities)[:, None], labels)
    assert fit_slope(labels, probabilities).value == pytest.approx(model.coef_[0, 0], abs=1e-4)
    intercept = fit_intercept(labels, probabilities).value
    assert expit(intercept + logit(probabilities)).mean() == pytest.approx(labels.mean(), abs=1e-9)
    big, sharp = drawn(20000, sharpness=2.0, shift=0.7, seed=1)
    assert fit_slope(big, sharp).value == pytest.approx(0.5, abs=0.02)
    plain, low = drawn(20000, shift=0.7, seed=2)
    assert fit_intercept(plain, low).value == pytest.approx(0.7, abs=0.05)


def test_slope_and_intercept_that_do_not_exist_have_a_reason():
    apart = np.array([False, False, True]), np.array([0.1, 0.4, 0.4])
    assert "do not overlap" in fit_slope(*apart).reason
    assert fit_intercept(*apart).value is not None
    assert fit_slope(np.array([True, False]), np.array([0.3, 0.3])).reason.startswith(
        "every slide has the same"
    )
    assert fit_slope(np.array([True]), np.array([0.3])).reason == "no negatives among 1"
    assert fit_intercept(np.array([False, False]), np.array([0.3, 0.4])).reason == "no positives among 2"


def test_wilsons_interval_of_a_published_value_and_at_the_ends():
    assert wilson_interval(81 / 263, 263, confidence=0.95) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0.0, 10, confidence=0.95) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(1.0, 10, confidence=0.95).high == pytest.approx(1.0)


def test_scaling_each_fold_by_its_own_validation_slides_mends_what_is_too_sure():
    test, validation = [], []
    for fold, sharpness in enumerate((2.0, 4.0)):
        test.append(part(*drawn(500, sharpness=sharpness, seed=fold), fold=fold))
        validation.append(part(*drawn(500, sharpness=sharpness, seed=10 + fold), fold=fold))
    found = calibrate(sampled(*test), validation).record
    assert [one["value"] for one in found["temperatures"]] == pytest.approx([2.0, 4.0], rel=0.2)
    before, after = found["before"], found["after"]
    assert before["slope"]["estimate"] < 0.5
    assert after["slope"]["estimate"] == pytest.approx(1.0, abs=0.15)
    assert after["ece"]["estimate"] < before["ece"]["estimate"]
    assert after["log_loss"]["estimate"] < before["log_loss"]["estimate"]
    assert after["brier"]["low"] < after["brier"]["estimate"] < after["brier"]["high"]
    assert sum(one["count"] for one in before["bins"]) == 1000
    assert [one["count"] for one in before["bins"]] == [100] * 10
    for one in before["bins"]:
        assert one["observed_low"] <= one["observed"] <= one["observed_high"]
        assert one["low"] <= one["mean_probability"] <= one["high"]


def test_the_slopes_interval_has_the_width_of_a_bootstrap_of_patients():
    labels, probabilities = drawn(300, sharpness=1.5)
    cases = tuple(f"c{index // 2}" for index in range(300))
    interval = calibrate(sampled(part(labels, probabilities, cases=cases)), []).record["before"]["slope"]
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(300):
        pairs = rng.integers(0, 150, 150)
        rows = np.concatenate([2 * pairs, 2 * pairs + 1])
        slopes.append(fit_slope(labels[rows], probabilities[rows]).value)
    half_width = (interval["high"] - interval["low"]) / 2
    assert half_width / 1.96 == pytest.approx(np.std(slopes), rel=0.2)
    assert interval["estimate"] == pytest.approx(fit_slope(labels, probabilities).value)


def test_seeds_are_averaged_and_a_bin_counts_patients_once():
    labels, probabilities = drawn(60)
    cases = tuple(f"c{index // 3}" for index in range(60))
    one = part(labels, probabilities, cases=cases)
    twice = calibrate(sampled(one, one._replace(seed=1)), []).record["before"]
    once = calibrate(sampled(one), []).record["before"]
    for name in ("ece", "brier", "log_loss", "slope", "intercept"):
        assert twice[name]["estimate"] == pytest.approx(once[name]["estimate"])
        assert twice[name]["low"] == pytest.approx(once[name]["low"])
    assert sum(one["count"] for one in twice["bins"]) == 120
    assert max(one["cases"] for one in twice["bins"]) <= 20


def test_a_fold_without_temperature_leaves_what_came_before_it():
    first, second = (part(*drawn(100, seed=fold), fold=fold) for fold in (0, 1))
    found = calibrate(sampled(first, second), [part(*drawn(100, seed=5), fold=0)])
    record = found.record
    assert found.scaled is None
    assert record["after"]["ece"]["estimate"] is None
    assert record["after"]["reason"] == "seed 0, fold 1: no validation slides"
    assert record["before"]["ece"]["estimate"] is not None
    assert (record["reason"], record["after"]["bins"]) == ("", [])


def test_one_slide_has_losses_and_reasons_for_all_else():
    record = calibrate(sampled(part([1], [0.7])), []).record["before"]
    assert record["brier"]["estimate"] == pytest.approx(0.09)
    assert record["brier"]["low"] is None
    assert record["slope"]["reason"] == "no negatives among 1"
    assert record["bins"][0]["observed"] == 1.0
