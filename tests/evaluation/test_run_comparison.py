"""Runs against each other on made-up scores: order, pairs, tests, repeats, and what cannot be compared."""

import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.evaluation.comparison import delong_test
from wsi_kd.evaluation.holm import holm
from wsi_kd.evaluation.run_comparison import (
    BEST,
    NONE_SHARED,
    SAME,
    Sampling,
    chosen_pairs,
    compare_pairs,
    family_of,
    leaderboard,
    rank_entries,
    shared_by_all,
    shared_slides,
)
from wsi_kd.evaluation.run_notes import run_notes
from wsi_kd.evaluation.run_scores import Entry, one_row_a_slide, refuse_other_facts, slides_of
from wsi_kd.evaluation.slide_metrics import SlideScores

SAMPLING = Sampling(samples=200, confidence=0.95, seed=0)
SLIDES = tuple(f"s{index:02d}" for index in range(24))


def part(scores, *, slides=SLIDES, seed=0, fold=0, labels=None, probabilities=None):
    scores = np.asarray(scores, dtype=np.float64)
    numbers = np.array([int(slide[1:]) for slide in slides], dtype=np.int64)
    return SlideScores(
        seed=seed,
        fold=fold,
        slide_ids=tuple(slides),
        case_ids=tuple(f"c{number // 2}" for number in numbers),
        labels=numbers // 2 % 2 if labels is None else labels,
        scores=scores,
        calls=scores >= 0.5,
        class_probabilities=probabilities,
        threshold=0.5,
    )


def drawn(quality, *, draw, slides=SLIDES, seed=0):
    """Scores of slides whose labels are 0, 0, 1, 1, 0, 0, ...; those of a higher quality rank better."""
    numbers = np.array([int(slide[1:]) for slide in slides])
    noise = np.random.default_rng([draw, seed]).normal(size=100)[numbers]
    return part(1 / (1 + np.exp(-noise - quality * (numbers // 2 % 2 - 0.5))), slides=slides, seed=seed)


def entry(run, *, recipe="weno", score="teacher", validation=1.0, test=1.0, slides=SLIDES, seeds=(0,)):
    draw = sum(map(ord, run + recipe + score))
    return Entry(
        run,
        recipe,
        score,
        tuple(drawn(validation, draw=7, seed=seed) for seed in seeds),
        tuple(drawn(test, draw=draw, slides=slides, seed=seed) for seed in seeds),
    )


def test_validation_ranks_and_test_does_not():
    entries = [
        entry("worst on validation", validation=0.0, test=9.0),
        entry("best on validation", validation=9.0, test=0.0),
        entry("between", validation=2.0, test=4.0),
    ]
    rows = leaderboard(rank_entries(entries, SAMPLING), SAMPLING)
    assert [row["run"] for row in rows] == ["best on validation", "between", "worst on validation"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    areas = [row["validation"]["estimate"] for row in rows]
    assert areas == sorted(areas, reverse=True)
    assert rows[0]["test"]["roc_auc"]["estimate"] < rows[2]["test"]["roc_auc"]["estimate"]


def test_poisoned_test_slides_do_not_move_the_order():
    entries = [entry(run, validation=quality) for run, quality in (("a", 1.0), ("b", 9.0), ("c", 3.0))]
    poisoned = [
        one._replace(test=tuple(each._replace(labels=1 - each.labels) for each in one.test))
        for one in entries
    ]
    orders = [[row.entry.run for row in rank_entries(each, SAMPLING)] for each in (entries, poisoned)]
    assert orders[0] == orders[1] == ["b", "c", "a"]
    assert (
        len({row.test.metrics["pooled"]["roc_auc"]["estimate"] for row in rank_entries(poisoned, SAMPLING)})
        == 3
    )


def test_equal_validation_keeps_the_order_given_and_undefined_comes_last():
    lost = entry("lost")._replace(validation=(part([0.1, 0.2], slides=("s00", "s01")),))
    wrong = entry("wrong")._replace(validation=(part([0.9, 0.1], slides=("s00", "s02")),))
    entries = [lost, wrong, entry("b", test=0.0), entry("a", test=9.0)]
    ranked = rank_entries(entries, SAMPLING)
    assert [measured.entry.run for measured in ranked] == ["b", "a", "wrong", "lost"]
    assert ranked[2].validation.metrics["pooled"]["roc_auc"]["estimate"] == 0.0
    last = leaderboard(ranked, SAMPLING)[-1]["validation"]
    assert last["estimate"] is None
    assert last["reason"] == "no positives among 2"


def test_the_validation_auc_is_the_mean_over_seeds_of_all_folds_slides():
    """Seed 0: 3 of 4 pairs in order, seed 1: all 4; the slides of a seed stand in two folds."""
    slides = ("s00", "s02", "s04", "s06")
    folds = [
        part([0.1, 0.9], slides=slides[:2], fold=0),
        part([0.6, 0.5], slides=slides[2:], fold=1),
        part([0.1, 0.9], slides=slides[:2], fold=0, seed=1),
        part([0.2, 0.8], slides=slides[2:], fold=1, seed=1),
    ]
    measured = rank_entries([entry("a")._replace(validation=tuple(folds))], SAMPLING)
    assert leaderboard(measured, SAMPLING)[0]["validation"]["estimate"] == pytest.approx((0.75 + 1.0) / 2)


def test_pairs_are_namesakes_and_the_best_of_each_run():
    entries = [
        entry("a", recipe="abmil", validation=5.0),
        entry("b", recipe="mhim", validation=4.0),
        entry("a", score="student", validation=3.0),
        entry("b", recipe="weno", score="student", validation=2.0),
        entry("b", recipe="abmil", validation=1.0),
    ]
    pairs = chosen_pairs(entries)
    assert [(p.first.kind, p.second.kind, p.why) for p in pairs] == [
        (("abmil", "teacher"), ("mhim", "teacher"), BEST),
        (("abmil", "teacher"), ("abmil", "teacher"), SAME),
        (("weno", "student"), ("weno", "student"), SAME),
    ]
    assert all((p.first.run, p.second.run) == ("a", "b") for p in pairs)


def test_areas_are_compared_by_delong_with_the_slides_of_a_case_together():
    first, second = entry("a", test=3.0), entry("b", test=1.0)
    (found,) = compare_pairs(rank_entries([first, second], SAMPLING), SAMPLING)
    labels = first.test[0].labels > 0
    cases = np.arange(len(SLIDES)) // 2
    expected = delong_test(labels, first.test[0].scores, second.test[0].scores, cases=cases)
    auc = found["metrics"]["roc_auc"]
    assert auc["test"] == "DeLong"
    assert auc["estimate"] == pytest.approx(expected.difference)
    assert auc["p_value"] == pytest.approx(expected.p_value)
    assert (auc["low"], auc["high"]) == pytest.approx((expected.low, expected.high))
    assert (found["slides"], found["cases"]) == (24, 12)
    assert found["metrics"]["average_precision"]["test"] == "bootstrap"


def test_every_p_value_of_the_file_is_one_family():
    entries = [
        entry(run, score=score, test=test)
        for run, test in (("a", 3.0), ("b", 1.0), ("c", 0.0))
        for score in ("teacher", "student")
    ]
    tests = compare_pairs(rank_entries(entries, SAMPLING), SAMPLING)
    found = [metric for test in tests for metric in test["metrics"].values()]
    assert len(tests) == 6
    assert family_of(tests) == {"method": "Holm", "tests": 18}
    assert [metric["p_holm"] for metric in found] == holm([metric["p_value"] for metric in found])
    assert any(metric["p_holm"] > metric["p_value"] for metric in found)


def test_a_run_against_its_own_copy_differs_by_nothing():
    one = entry("a")
    (found,) = compare_pairs(rank_entries([one, one._replace(run="b")], SAMPLING), SAMPLING)
    for metric in found["metrics"].values():
        assert metric["estimate"] == 0.0
        assert metric["p_value"] == 1.0
        assert (metric["low"], metric["high"]) == (0.0, 0.0)


def test_only_slides_that_both_tested_count():
    """Run b tested the first 16 slides: the pair is what both runs would give on those alone."""
    first, second = entry("a", test=0.5), entry("b", slides=SLIDES[:16])
    shorter = first._replace(test=(drawn(0.5, draw=sum(map(ord, "awenoteacher")), slides=SLIDES[:16]),))
    (partial,) = compare_pairs(rank_entries([first, second], SAMPLING), SAMPLING)
    (whole,) = compare_pairs(rank_entries([shorter, second], SAMPLING), SAMPLING)
    assert partial["slides"] == 16
    assert partial == whole
    assert shared_slides([first, second]) == [
        {"run": "a", "against_run": "b", "both": 16, "only_run": 8, "only_against_run": 0}
    ]
    rows = leaderboard(rank_entries([first, second], SAMPLING), SAMPLING)
    assert [row["test_slides"] for row in rows] == [24, 16]
    assert rows[0]["shared"]["roc_auc"] != rows[0]["test"]["roc_auc"]
    assert rows[1]["shared"]["roc_auc"] == rows[1]["test"]["roc_auc"]


def test_a_slide_that_one_seed_alone_scored_is_not_an_entrys():
    parts = [part([0.1, 0.2], slides=("s00", "s02"), seed=0), part([0.3, 0.4], slides=("s02", "s04"), seed=1)]
    assert slides_of(parts) == {"s02"}
    assert slides_of([]) == frozenset()


def test_runs_of_other_slides_are_ranked_and_not_tested():
    entries = [entry("a", slides=SLIDES[:12]), entry("b", slides=SLIDES[12:])]
    ranked = rank_entries(entries, SAMPLING)
    (found,) = compare_pairs(ranked, SAMPLING)
    assert shared_by_all(entries) == frozenset()
    for metric in found["metrics"].values():
        assert metric["p_value"] is None
        assert metric["p_holm"] is None
        assert metric["reason"] == NONE_SHARED
    assert family_of([found])["tests"] == 0
    assert len(leaderboard(ranked, SAMPLING)) == 2


def test_scores_that_are_no_numbers_are_not_tested():
    broken = entry("b")
    broken.test[0].scores[3] = np.nan
    tests = compare_pairs(rank_entries([entry("a"), broken], SAMPLING), SAMPLING)
    for metric in tests[0]["metrics"].values():
        assert metric["p_value"] is None
        assert "1 of 24 scores are not finite (first: slide s03)" in metric["reason"]


def test_seeds_are_averaged_and_shared_ones_compared():
    tests = compare_pairs(
        rank_entries([entry("a", seeds=(0, 1, 2)), entry("b", seeds=(1, 2, 3))], SAMPLING), SAMPLING
    )
    auc = tests[0]["metrics"]["roc_auc"]
    assert [one["seed"] for one in auc["per_seed"]] == [1, 2]
    assert auc["over_seeds"]["count"] == 2


def test_a_slide_that_several_folds_test_counts_once_by_its_mean():
    folds = [
        part([0.2, 0.9], slides=("s02", "s00"), fold=0),
        part([0.6, 0.7], slides=("s02", "s04"), fold=1),
    ]
    (found,) = one_row_a_slide(folds, slides={"s00", "s02"})
    assert found.slide_ids == ("s00", "s02")
    assert found.case_ids == ("c0", "c1")
    assert found.scores == pytest.approx([0.9, 0.4])
    assert found.calls.tolist() == [True, True]  # s02: one of two folds calls it positive
    assert found.labels.tolist() == [0, 1]


def test_three_classes_are_compared_by_the_bootstrap_of_the_macro_auc():
    def many(run, quality):
        labels = np.arange(24) % 3
        draws = np.random.default_rng(len(run)).random((24, 3)) + quality * np.eye(3)[labels]
        shares = draws / draws.sum(axis=1, keepdims=True)
        made = part(1 - shares[:, 0], labels=labels, probabilities=shares)
        return entry(run)._replace(validation=(made,), test=(made,))

    (found,) = compare_pairs(rank_entries([many("a", 3.0), many("bb", 0.0)], SAMPLING), SAMPLING)
    assert found["metrics"]["roc_auc"]["test"] == "bootstrap"
    assert found["metrics"]["roc_auc"]["estimate"] > 0.2
    assert found["metrics"]["roc_auc"]["p_value"] < 0.05


@pytest.mark.parametrize(("changed", "what"), [("labels", "label"), ("case_ids", "case")])
def test_runs_that_disagree_about_a_slide_are_refused(changed, what):
    one = part(np.full(24, 0.5))
    others = {"labels": 1 - one.labels, "case_ids": tuple(f"other {case}" for case in one.case_ids)}
    entries = [entry("a"), entry("b")._replace(test=(one._replace(**{changed: others[changed]}),))]
    told = rf"the label or the case of 24 slides: s00 \({what}: a and b\), s01 .* and 19 more; only runs of"
    with pytest.raises(BadInput, match=told):
        refuse_other_facts(entries)
    refuse_other_facts(entries[:1])


def facts(run, **changes):
    told = {"run": run, "recipes": ["weno"], "seeds": [0], "folds": 1, "test_slides": 24, "test_cases": 12}
    return {**told, "unlabeled": 0, "split_group": 1, "version": "1", **changes}


def test_notes_tell_what_is_odd_and_nothing_else():
    same = [entry("a"), entry("b")]
    assert run_notes([facts("a"), facts("b")], same, shared_slides(same)) == []
    odd = [entry("a"), entry("a", recipe="mhim"), entry("b", slides=SLIDES[:16])]
    runs = [facts("a", unlabeled=3), facts("b", split_group=2, seeds=[1])]
    notes = run_notes(runs, odd, shared_slides(odd))
    assert [note.split(":")[0].split(" (")[0] for note in notes] == [
        "a and b did not test the same slides",
        "The runs were split differently",
        "Test slides without a label are left out",
        "The runs have other seeds",
        "Of one run alone",
    ]
    assert "16 both, 8 a alone, 0 b alone" in notes[0]
    assert "no leak" in notes[1]
    assert "3 of a" in notes[2]
    assert "mhim, teacher (a)" in notes[4]
