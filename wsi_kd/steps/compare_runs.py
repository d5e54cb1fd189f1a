"""Finished runs -> comparison.json, leaderboard.csv and index.html: ranked by validation, tested in pairs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, publish_table, publish_text, read_json
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import RESEARCH_ONLY, check_schema, stamp
from wsi_kd.evaluation.run_comparison import (
    Sampling,
    compare_pairs,
    family_of,
    leaderboard,
    rank_entries,
    shared_by_all,
    shared_slides,
)
from wsi_kd.evaluation.run_notes import run_notes
from wsi_kd.evaluation.run_scores import Entry, refuse_other_facts
from wsi_kd.evaluation.schema import SLIDE_METRICS
from wsi_kd.evaluation.schema_runs import LeaderboardRow, RunComparison, RunComparisonFile, RunFacts
from wsi_kd.report.render import render_page
from wsi_kd.report.runs_page import runs_page
from wsi_kd.steps.finished_run import FinishedRun, entries_of, read_finished_run, run_names

KIND = "run_comparison"
COMPARISON, LEADERBOARD, PAGE = "comparison.json", "leaderboard.csv", "index.html"
REMAKE = "wsi-kd report RUN RUN"
TEST_COLUMNS = tuple(f"test_{metric}{end}" for metric in SLIDE_METRICS for end in ("", "_low", "_high"))
COLUMNS = (
    "rank",
    "run",
    "recipe",
    "score",
    "seeds",
    "validation_slides",
    "validation_roc_auc",
    "validation_roc_auc_low",
    "validation_roc_auc_high",
    "validation_reason",
    "test_slides",
    "test_cases",
    *TEST_COLUMNS,
)
"""Of leaderboard.csv."""


def run_compare(folders: Sequence[Path], *, out_dir: Path) -> Path:
    """Write the data files, then from them the page; return its path.

    Intervals and resamples are made as the first run's `evaluate` settings say.

    Args:
        folders: finished runs' `run.results_dir`, two or more.
        out_dir: where to write.

    Raises:
        BadInput: a folder that holds no finished run, or is given twice; runs of other classes, or that
            disagree about a slide's label or case.
        RunFailed: a file could not be written.
    """
    names = run_names(folders)
    runs = []
    with progress("report", total=len(folders), unit="runs") as advance:
        for folder, name in zip(folders, names, strict=True):
            runs.append(read_finished_run(folder, name))
            advance()
    _refuse_other_classes(runs)
    comparison = _compare(runs)
    made_with = {"evaluate": runs[0].metrics["settings"]["evaluate"], "runs": names}
    publish_table(
        out_dir / LEADERBOARD,
        COLUMNS,
        map(_cells, comparison["leaderboard"]),
        stamp=stamp("leaderboard", made_with),
    )
    publish_json(
        out_dir / COMPARISON,
        {
            **stamp(KIND, made_with),
            **comparison,
            "differing_settings": differing_settings({run.name: run.settings for run in runs}),
            "research_only": RESEARCH_ONLY,
        },
    )
    page = out_dir / PAGE
    publish_text(page, render_page(runs_page(_read_back(out_dir / COMPARISON))))
    return page


def differing_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by setting, the value of each run, where they are not all alike; None where a run has none.

    >>> differing_settings({"a": {"tile": {"tile_px": 224, "overlap_px": 0}}, "b": {"tile": {"tile_px": 256,
    ... "overlap_px": 0}}})
    {'tile.tile_px': {'a': 224, 'b': 256}}
    """
    flat = {run: dict(_flat(sections)) for run, sections in settings.items()}
    keys = list(dict.fromkeys(key for found in flat.values() for key in found))
    table = {key: {run: found.get(key) for run, found in flat.items()} for key in keys}
    return {
        key: row for key, row in table.items() if any(value != row[next(iter(row))] for value in row.values())
    }


def _flat(values: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


def _compare(runs: Sequence[FinishedRun]) -> RunComparison:
    entries = [entry for run in runs for entry in entries_of(run)]
    refuse_other_facts(entries)
    told = runs[0].metrics["settings"]["evaluate"]
    sampling = Sampling(told["bootstrap_samples"], told["confidence"], told["seed"])
    ranked = rank_entries(entries, sampling)
    tests = compare_pairs(ranked, sampling)
    facts, shared = _facts(runs, entries), shared_slides(entries)
    return {
        "classes": list(runs[0].metrics["classes"]),
        "runs": facts,
        "confidence": sampling.confidence,
        "bootstrap_samples": sampling.samples,
        "seed": sampling.seed,
        "shared_slides": shared,
        "shared_by_all": len(shared_by_all(entries)),
        "leaderboard": leaderboard(ranked, sampling),
        "tests": tests,
        "family": family_of(tests),
        "notes": run_notes(facts, entries, shared),
    }


def _facts(runs: Sequence[FinishedRun], entries: Sequence[Entry]) -> list[RunFacts]:
    splits: list[frozenset[tuple[frozenset[str], ...]]] = []
    facts: list[RunFacts] = []
    for run in runs:
        split = frozenset(tuple(frozenset(part) for part in fold) for fold in run.folds)
        if split not in splits:
            splits.append(split)
        parts = [part for entry in entries if entry.run == run.name for part in entry.test]
        tested = {row.slide_id for model in run.models for row in model.test_rows}
        labeled = {slide_id for part in parts for slide_id in part.slide_ids}
        facts.append(
            {
                "run": run.name,
                "recipes": list(run.metrics["recipes"]),
                "seeds": sorted({part.seed for part in parts}),
                "folds": len(run.folds),
                "test_slides": len(labeled),
                "test_cases": len({case for part in parts for case in part.case_ids}),
                "unlabeled": len(tested - labeled),
                "split_group": splits.index(split) + 1,
                "version": run.metrics["versions"]["wsi_kd"],
            }
        )
    return facts


def _refuse_other_classes(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.metrics["classes"] != first.metrics["classes"]:
            raise BadInput(
                f"{run.name}: its classes are {', '.join(run.metrics['classes'])}, those of {first.name} "
                f"{', '.join(first.metrics['classes'])}; only runs of the same classes in the same order "
                "(the first is the negative one) can be compared"
            )


def _cells(row: LeaderboardRow) -> list[object]:
    validation = row["validation"]
    test = [row["test"][metric][key] for metric in SLIDE_METRICS for key in ("estimate", "low", "high")]
    cells = [
        *(row[key] for key in ("rank", "run", "recipe", "score", "seeds", "validation_slides")),
        *(validation["estimate"], validation["low"], validation["high"], validation["reason"]),
        *(row["test_slides"], row["test_cases"]),
        *test,
    ]
    return ["" if cell is None else cell for cell in cells]


def _read_back(path: Path) -> RunComparisonFile:
    """Return what was written: the page shows the file, not what was meant to be in it."""
    written = read_json(path, remake=REMAKE)
    check_schema(written, KIND, where=path, remake=REMAKE)
    return cast("RunComparisonFile", written)
