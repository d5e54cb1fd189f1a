"""Finished runs against each other: ranked by validation, tested in pairs on the slides that both tested."""

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

from wsi_kd.evaluation.against_baseline import slide_differences
from wsi_kd.evaluation.holm import holm
from wsi_kd.evaluation.run_scores import Entry, one_row_a_slide, slides_of
from wsi_kd.evaluation.schema_comparisons import Difference
from wsi_kd.evaluation.schema_runs import Family, LeaderboardRow, RunDifference, RunTest, SharedSlides
from wsi_kd.evaluation.scored_slides import SlideScores
from wsi_kd.evaluation.slide_metrics import SlideAreas, measure_areas

SAME, BEST = "same recipe and score", "best by validation of each run"
RANKED_BY = "roc_auc"
HOLM = "Holm"
NONE_SHARED = "no slide with a label that both tested"

Name: TypeAlias = tuple[str, str, str]


class Sampling(NamedTuple):
    """How intervals and bootstrap tests are made; one for all runs, so that resamples are paired."""

    samples: int
    confidence: float
    seed: int


class Measured(NamedTuple):
    """An entry with what its own slides say."""

    entry: Entry
    validation: SlideAreas
    test: SlideAreas


class Pair(NamedTuple):
    """Two entries of two runs and why they are compared."""

    first: Entry
    second: Entry
    why: str


def rank_entries(entries: Sequence[Entry], sampling: Sampling) -> list[Measured]:
    """Measure every entry on its own slides and sort by the AUC of the validation slides, highest first.

    The test slides decide nothing: equal entries, and those without a validation AUC (last), keep the order
    given. The AUC is the mean over seeds of that on the validation slides of all folds.

    Args:
        entries: in the order of the runs given.
        sampling: of the intervals.
    """
    measured = [
        Measured(entry, _areas(entry.validation, sampling), _areas(entry.test, sampling)) for entry in entries
    ]
    return sorted(measured, key=_rank)


def leaderboard(ranked: Sequence[Measured], sampling: Sampling) -> list[LeaderboardRow]:
    """Tell of ranked entries what each row of the leaderboard holds.

    Args:
        ranked: by `rank_entries`.
        sampling: of the intervals.
    """
    common = shared_by_all([measured.entry for measured in ranked])
    is_partial = any(measured.entry.tested != common for measured in ranked) and bool(common)
    return [
        _row(rank, measured, common=common if is_partial else frozenset(), sampling=sampling)
        for rank, measured in enumerate(ranked, start=1)
    ]


def compare_pairs(ranked: Sequence[Measured], sampling: Sampling) -> list[RunTest]:
    """Test every pair of `chosen_pairs` on the slides that both tested, and correct all p-values together.

    AUCs by DeLong's test (of the mean over seeds, slides of a case taken together), the other metrics, and
    the macro AUC of more than two classes, by the bootstrap of patients with the same resamples on both sides
    (`slide_differences`). A score of a slide that several folds tested is their mean.

    Args:
        ranked: by `rank_entries`.
        sampling: of intervals and resamples.
    """
    known: dict[tuple[Name, frozenset[str]], SlideAreas] = {}

    def areas(entry: Entry, slides: frozenset[str]) -> SlideAreas:
        key = (_name(entry), slides)
        if key not in known:
            known[key] = _areas(one_row_a_slide(entry.test, slides=slides), sampling)
        return known[key]

    tests = []
    for pair in chosen_pairs([measured.entry for measured in ranked]):
        slides = pair.first.tested & pair.second.tested
        sides = areas(pair.first, slides), areas(pair.second, slides)
        tests.append(_tested(pair, *sides, confidence=sampling.confidence))
    return _corrected(tests)


def chosen_pairs(ranked: Sequence[Entry]) -> list[Pair]:
    """Choose what is tested: of every two runs what both have by name, and the best of each by validation.

    More pairs would cost every one of them power.
    """
    best: dict[str, Entry] = {}
    for entry in ranked:
        best.setdefault(entry.run, entry)
    pairs = [
        Pair(first, second, SAME if first.kind == second.kind else BEST)
        for first, second in combinations(ranked, 2)
        if first.run != second.run
        and (first.kind == second.kind or (first is best[first.run] and second is best[second.run]))
    ]
    return sorted(pairs, key=lambda pair: pair.why != BEST)


def family_of(tests: Sequence[RunTest]) -> Family:
    """Tell what the p-values of `compare_pairs` are corrected for."""
    made = sum(found["p_value"] is not None for test in tests for found in test["metrics"].values())
    return {"method": HOLM, "tests": made}


def shared_slides(entries: Sequence[Entry]) -> list[SharedSlides]:
    """Count for every two runs the slides that both tested, and those that one alone did."""
    tested = _tested_by_run(entries)
    return [
        {
            "run": first,
            "against_run": second,
            "both": len(tested[first] & tested[second]),
            "only_run": len(tested[first] - tested[second]),
            "only_against_run": len(tested[second] - tested[first]),
        }
        for first, second in combinations(tested, 2)
    ]


def shared_by_all(entries: Sequence[Entry]) -> frozenset[str]:
    """Return the slides that every entry tested."""
    return frozenset.intersection(*(entry.tested for entry in entries)) if entries else frozenset()


def _tested_by_run(entries: Sequence[Entry]) -> dict[str, frozenset[str]]:
    tested: dict[str, frozenset[str]] = {}
    for entry in entries:
        tested[entry.run] = tested.get(entry.run, frozenset()) | entry.tested
    return tested


def _areas(parts: Sequence[SlideScores], sampling: Sampling) -> SlideAreas:
    return measure_areas(parts, **sampling._asdict())


def _rank(measured: Measured) -> tuple[bool, float]:
    estimate = measured.validation.metrics["pooled"][RANKED_BY]["estimate"]
    return estimate is None, -(estimate or 0.0)


def _row(rank: int, measured: Measured, *, common: Collection[str], sampling: Sampling) -> LeaderboardRow:
    entry = measured.entry
    on_shared = _areas(one_row_a_slide(entry.test, slides=common), sampling).metrics if common else None
    return {
        "rank": rank,
        "run": entry.run,
        "recipe": entry.recipe,
        "score": entry.score,
        "seeds": len({part.seed for part in entry.test}),
        "validation_slides": len(slides_of(entry.validation)),
        "validation": measured.validation.metrics["pooled"][RANKED_BY],
        "test_slides": len(entry.tested),
        "test_cases": len({case for part in entry.test for case in part.case_ids}),
        "test": measured.test.metrics["pooled"],
        "shared": {} if on_shared is None else on_shared["pooled"],
    }


def _tested(pair: Pair, first: SlideAreas, second: SlideAreas, *, confidence: float) -> RunTest:
    found = slide_differences(first, second, confidence=confidence)
    slides = first.pooled[0].slide_ids
    return {
        "run": pair.first.run,
        "recipe": pair.first.recipe,
        "score": pair.first.score,
        "against_run": pair.second.run,
        "against_recipe": pair.second.recipe,
        "against_score": pair.second.score,
        "why": pair.why,
        "slides": len(slides),
        "cases": len(set(first.pooled[0].case_ids)),
        "metrics": {name: _uncorrected(one, shared=bool(slides)) for name, one in found.items()},
    }


def _uncorrected(difference: Difference, *, shared: bool) -> RunDifference:
    reason = difference["reason"] if shared else NONE_SHARED
    return {**difference, "reason": reason, "p_holm": None}


def _corrected(tests: Sequence[RunTest]) -> list[RunTest]:
    """Fill in the corrected p-values of all tests."""
    places = [(index, metric) for index, test in enumerate(tests) for metric in test["metrics"]]
    adjusted = holm([tests[index]["metrics"][metric]["p_value"] for index, metric in places])
    by_place = dict(zip(places, adjusted, strict=True))
    return [
        {
            **test,
            "metrics": {
                metric: {**found, "p_holm": by_place[index, metric]}
                for metric, found in test["metrics"].items()
            },
        }
        for index, test in enumerate(tests)
    ]


def _name(entry: Entry) -> Name:
    return entry.run, entry.recipe, entry.score
