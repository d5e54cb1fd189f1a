"""What a reader of a comparison of runs must know before its numbers, in sentences."""

from collections.abc import Sequence
from itertools import groupby

from wsi_kd.evaluation.run_scores import Entry
from wsi_kd.evaluation.schema_runs import RunFacts, SharedSlides


def run_notes(
    runs: Sequence[RunFacts], entries: Sequence[Entry], shared: Sequence[SharedSlides]
) -> list[str]:
    """Tell of other slides, other splits, slides without a label, other seeds and recipes of one run alone.

    Args:
        runs: what each tested, and how.
        entries: every score of every run.
        shared: test slides of every two runs.
    """
    return [
        *_other_slides(shared),
        *_other_splits(runs),
        *_unlabeled(runs),
        *_other_seeds(runs),
        *_lonely(entries, runs=len(runs)),
    ]


def _other_slides(shared: Sequence[SharedSlides]) -> list[str]:
    return [
        f"{pair['run']} and {pair['against_run']} did not test the same slides: {pair['both']} both, "
        f"{pair['only_run']} {pair['run']} alone, {pair['only_against_run']} {pair['against_run']} alone; "
        + (
            "they are tested against each other on those that both tested."
            if pair["both"]
            else "so nothing of them can be tested against each other."
        )
        for pair in shared
        if pair["only_run"] or pair["only_against_run"]
    ]


def _other_splits(runs: Sequence[RunFacts]) -> list[str]:
    ordered = sorted(runs, key=lambda run: run["split_group"])
    groups = [
        [run["run"] for run in group] for _, group in groupby(ordered, key=lambda run: run["split_group"])
    ]
    if len(groups) == 1:
        return []
    told = "; ".join(", ".join(names) for names in groups)
    return [
        f"The runs were split differently (split alike: {told}). Every test score is of a model that did not "
        "see the slide, so the paired tests hold; that a slide which one run tested may have trained another "
        "model of the other run is no leak. The models learned from other slides, which is part of any "
        "difference, and their validation scores are of other slides, so that close ranks mean little."
    ]


def _unlabeled(runs: Sequence[RunFacts]) -> list[str]:
    told = [f"{run['unlabeled']} of {run['run']}" for run in runs if run["unlabeled"]]
    return [f"Test slides without a label are left out: {', '.join(told)}."] if told else []


def _other_seeds(runs: Sequence[RunFacts]) -> list[str]:
    if len({tuple(run["seeds"]) for run in runs}) == 1:
        return []
    told = "; ".join(f"{run['run']}: {', '.join(map(str, run['seeds']))}" for run in runs)
    return [
        f"The runs have other seeds ({told}): each side is the mean over its own, and single seeds are "
        "compared where both have them."
    ]


def _lonely(entries: Sequence[Entry], *, runs: int) -> list[str]:
    """Tell of scores that no other run has by that name."""
    owners: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        owners.setdefault(entry.kind, set()).add(entry.run)
    alone = [
        f"{recipe}, {score} ({next(iter(owner))})"
        for (recipe, score), owner in owners.items()
        if len(owner) == 1
    ]
    if not alone or runs < 2:  # noqa: PLR2004 - two make a pair
        return []
    return [
        f"Of one run alone: {'; '.join(alone)}. What no other run has by name is tested only where it is its "
        "run's best by validation."
    ]
