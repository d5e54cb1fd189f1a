"""Calls, calibration and net benefit of two seeds and two folds against plain loops over drawn patients."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from wsi_kd.evaluation.sampled_scores import SlidePlan
from wsi_kd.evaluation.scored_slides import SlideScores
from wsi_kd.evaluation.slide_metrics import measure_slides

SAMPLES, CONFIDENCE, SEEDS, FOLDS, SLIDES = 120, 0.9, 2, 2, 24
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


def drawn_part(generator, *, seed, fold, name):
    """Patients of one to three slides, one in three positive, some scores tied."""
    labels = (np.arange(SLIDES) % 3 == 0).astype(np.int64)
    scores = np.clip(0.35 * labels + generator.random(SLIDES) * 0.6, 0.02, 0.98).round(2)
    slides = tuple(f"{name}{fold}-{index:02d}" for index in range(SLIDES))
    cases = tuple(f"{name}{fold}-{index // (1 + index % 3):02d}" for index in range(SLIDES))
    return SlideScores(seed, fold, slides, cases, labels, scores, scores >= 0.5, None, 0.5)


def drawn_parts(name):
    generator = np.random.default_rng(len(name))
    return [
        drawn_part(generator, seed=seed, fold=fold, name=name)
        for seed in range(SEEDS)
        for fold in range(FOLDS)
    ]


TEST, VALIDATION = drawn_parts("t"), drawn_parts("val")
FOUND = measure_slides(
    TEST, samples=SAMPLES, confidence=CONFIDENCE, seed=5, plan=SlidePlan(validation=tuple(VALIDATION))
).metrics
CASES = np.array([case for part in TEST[:FOLDS] for case in part.case_ids])
POSITIVE = np.concatenate([part.labels for part in TEST[:FOLDS]]) > 0
SCORES = [np.concatenate([part.scores for part in TEST if part.seed == seed]) for seed in range(SEEDS)]


def chosen_slides():
    """Draw patients as the intervals do and copy out all their slides."""
    generator, names = np.random.default_rng(5), sorted(set(CASES))
    found = []
    while len(found) < SAMPLES:
        counts = generator.multinomial(len(names), [1 / len(names)] * len(names), size=SAMPLES - len(found))
        for row in counts:
            times = dict(zip(names, row, strict=True))
            slides = np.repeat(np.arange(len(CASES)), [times[case] for case in CASES])
            found += [slides] if len(set(POSITIVE[slides])) == 2 else []
    return found


RESAMPLES = chosen_slides()


def check(pooled, measure):
    """Compare estimate and interval with `measure(seed, slides)`, averaged over seeds."""

    def mean(slides):
        return np.mean([measure(seed, slides) for seed in range(SEEDS)])

    values = np.array([mean(slides) for slides in RESAMPLES])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    assert pooled["estimate"] == pytest.approx(mean(np.arange(len(CASES))))
    assert (pooled["low"], pooled["high"]) == pytest.approx((low, high))
    assert pooled["resamples"] == len(values)
    assert low < high


@pytest.mark.parametrize("rule", ["youden", "sensitivity", "specificity", "checkpoint"])
def test_rates_of_calls(rule):
    point = next(one for one in FOUND["operating_points"] if one["rule"] == rule)
    at = {(one["seed"], one["fold"]): one["value"] for one in point["thresholds"]}
    assert len(set(at.values())) == (1 if rule == "checkpoint" else SEEDS * FOLDS)
    calls = [
        np.concatenate([part.scores >= at[seed, part.fold] for part in TEST if part.seed == seed])
        for seed in range(SEEDS)
    ]

    def rate(name):
        def measure(seed, slides):
            called, true = calls[seed][slides], POSITIVE[slides]
            among, right = {
                "sensitivity": (true, called),
                "specificity": (~true, ~called),
                "ppv": (called, true),
                "npv": (~called, ~true),
            }[name]
            return right[among].mean() if among.any() else np.nan

        return measure

    for name in ("sensitivity", "specificity", "ppv", "npv"):
        check(point[name], rate(name))


def test_brier_log_loss_and_ece():
    record = FOUND["calibration"]["before"]
    check(record["brier"], lambda seed, at: np.mean((SCORES[seed][at] - POSITIVE[at]) ** 2))

    def surprise(seed, slides):
        given = np.where(POSITIVE[slides], SCORES[seed][slides], 1 - SCORES[seed][slides])
        return -np.log(given).mean()

    check(record["log_loss"], surprise)

    def error(seed, slides):
        cuts = np.quantile(SCORES[seed], [0.25, 0.5, 0.75])  # 48 slides: four bins
        bin_of = np.array([sum(score >= cut for cut in cuts) for score in SCORES[seed][slides]])
        return sum(
            np.mean(bin_of == at)
            * abs(SCORES[seed][slides][bin_of == at].mean() - POSITIVE[slides][bin_of == at].mean())
            for at in set(bin_of)
        )

    check(record["ece"], error)


def test_net_benefit_and_its_band():
    curve = FOUND["decision_curve"]
    for at in (10, 40, 70):
        threshold = curve["thresholds"][at]

        def measure(seed, slides, threshold=threshold):
            called, true = SCORES[seed][slides] >= threshold, POSITIVE[slides]
            return (called & true).mean() - (called & ~true).mean() * threshold / (1 - threshold)

        values = [np.mean([measure(seed, slides) for seed in range(SEEDS)]) for slides in RESAMPLES]
        ends = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        assert (curve["low"][at], curve["high"][at]) == pytest.approx(tuple(ends), abs=1e-6)


def test_every_model_has_the_temperature_of_its_own_validation_slides():
    temperatures = FOUND["calibration"]["temperatures"]
    assert [(one["seed"], one["fold"]) for one in temperatures] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one, part in zip(temperatures, VALIDATION, strict=True):
        odds, positive = np.log(part.scores / (1 - part.scores)), part.labels > 0

        def loss(inverse, odds=odds, positive=positive):
            return np.sum(np.logaddexp(0, inverse * odds) - positive * inverse * odds)

        best = minimize_scalar(loss, bounds=(0.01, 20), method="bounded", options={"xatol": 1e-9})
        assert one["value"] == pytest.approx(1 / best.x, rel=1e-5)


def test_the_slopes_interval_is_the_sandwich_of_the_mean_over_seeds_by_patients():
    slopes, moved = [], []
    for scores in SCORES:
        odds = np.log(scores / (1 - scores))
        design = np.stack([np.ones_like(odds), odds], axis=1)

        def loss(fitted, design=design):
            return np.sum(np.logaddexp(0, design @ fitted) - POSITIVE * (design @ fitted))

        fitted = minimize(loss, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).x
        probability = 1 / (1 + np.exp(-design @ fitted))
        information = sum(
            p * (1 - p) * np.outer(row, row) for p, row in zip(probability, design, strict=True)
        )
        score = design * (POSITIVE - probability)[:, None]
        slopes.append(fitted[1])
        moved.append((np.linalg.inv(information) @ score.T)[1])
    names = sorted(set(CASES))
    summed = [np.mean(moved, axis=0)[case == CASES].sum() for case in names]
    error = np.sqrt(np.sum(np.square(summed)) * len(names) / (len(names) - 1))
    found = FOUND["calibration"]["before"]["slope"]
    assert found["estimate"] == pytest.approx(np.mean(slopes), rel=1e-4)
    assert found["high"] - found["estimate"] == pytest.approx(Z * error, rel=1e-4)


def test_the_bars_of_the_reliability_diagram_count_patients():
    for one in FOUND["calibration"]["before"]["bins"]:
        share, trials = one["observed"], one["cases"]
        assert trials < one["count"]
        for end in (one["observed_low"], one["observed_high"]):  # Wilson's ends: |share - p| = z se(p)
            assert abs(share - end) == pytest.approx(Z * np.sqrt(end * (1 - end) / trials), abs=1e-9)
