"""Reporting items on models: what they are, how they were made, by what they can be told apart."""

from collections.abc import Mapping
from typing import Any

from wsi_kd.report.numbers import counted
from wsi_kd.report.reporting_cohort import NO_MODEL
from wsi_kd.report.reporting_model_facts import (
    Computation,
    Hashes,
    Initialization,
    KeptEpoch,
    ModelSelection,
    ModelSpecification,
    Software,
    TrainedRecipe,
)
from wsi_kd.report.reporting_sources import ReportingSources
from wsi_kd.report.reporting_values import NotAvailable, Present, not_available, present
from wsi_kd.report.timings import duration

SELECTION_RULE = "the epoch with the lowest loss on the fold's validation slides"
NOT_TIMED = "the run holds no benchmark files: its steps were run by their commands, not by Snakemake"
MODELS_A_SCORE = 1


def model_specification(sources: ReportingSources) -> Present[list[ModelSpecification]] | NotAvailable:
    """Tell of each recipe what rebuilds its model."""
    if not sources.headers:
        return not_available(NO_MODEL)
    found: list[ModelSpecification] = [
        {
            "recipe": recipe,
            "teacher": str(header.get("teacher", "")),
            "arguments": dict(header.get("model", {})),
            "encoder": str(header.get("encoder", "")),
            "encoder_weights_hash": str(header.get("weights_hash", "")),
            "student_pooling": str(header.get("student_pooling", "")),
            "top_k": int(header.get("top_k", 0)),
        }
        for recipe, (header, _) in sources.by_recipe.items()
    ]
    told = "; ".join(
        f"{one['recipe']}: {one['teacher'] or 'no'} teacher on {one['encoder']}" for one in found
    )
    return present(f"{told}. Arguments and weights (see the hashes) rebuild each model.", found)


def software(sources: ReportingSources) -> Present[Software]:
    """Tell versions and the code's commit."""
    versions = sources.metrics["versions"]
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy"))
    text = f"wsi_kd {versions['wsi_kd']}, code {sources.git}; {libraries}."
    return present(text, {"versions": versions, "code": sources.git})


def initialization(sources: ReportingSources) -> Present[Initialization] | NotAvailable:
    """Tell seeds and the encoder's weights."""
    if not sources.headers:
        return not_available(NO_MODEL)
    facts: Initialization = {
        "seeds": sorted({model.seed for model in sources.models}),
        "encoder_weights_hashes": sorted({str(header.get("weights_hash", "")) for header in sources.headers}),
    }
    seeds = ", ".join(map(str, facts["seeds"]))
    return present(f"Random weights by seed ({seeds}); the encoder's are given and stay as they are.", facts)


def training(sources: ReportingSources) -> Present[list[TrainedRecipe]] | NotAvailable:
    """Tell of each recipe its settings and how long it was trained."""
    if not sources.headers:
        return not_available(NO_MODEL)
    found: list[TrainedRecipe] = [
        {
            "recipe": recipe,
            "settings": dict(header["settings"]["train"]),
            "models": len(models),
            "epochs": [_epochs(model.history) for model in models],
        }
        for recipe, (header, models) in sources.by_recipe.items()
    ]
    told = "; ".join(
        f"{one['recipe']}: {counted(one['models'], 'model')}, "
        f"{min(one['epochs'])} to {max(one['epochs'])} epochs"
        for one in found
    )
    return present(f"{told}. All hyperparameters are among the facts.", found)


def computation(sources: ReportingSources) -> Present[Computation] | NotAvailable:
    """Tell seconds by step and the largest job's memory."""
    timed = [(job.step, job.seconds) for job in sources.jobs if job.seconds is not None]
    if not timed:
        return not_available(NOT_TIMED)
    seconds: dict[str, float] = {}
    for step, took in timed:
        seconds[step] = seconds.get(step, 0.0) + took
    largest = max((job.peak_rss_mb for job in sources.jobs if job.peak_rss_mb is not None), default=None)
    memory = "not measured" if largest is None else f"{largest:,.0f} MB"
    text = f"{duration(sum(seconds.values()))} of jobs in all; largest resident set of a job: {memory}."
    return present(text, {"seconds": seconds, "largest_rss_mb": largest})


def model_selection(sources: ReportingSources) -> Present[ModelSelection] | NotAvailable:
    """Tell by which rule an epoch was kept, and which."""
    if not sources.models:
        return not_available(NO_MODEL)
    kept: list[KeptEpoch] = [
        {"recipe": model.recipe, "seed": model.seed, "fold": model.fold, "epoch": model.selected_epoch}
        for model in sources.models
    ]
    text = f"{SELECTION_RULE[0].upper()}{SELECTION_RULE[1:]}; test slides decide nothing."
    return present(text, {"rule": SELECTION_RULE, "chosen_on": "val", "kept": kept})


def ensembling(sources: ReportingSources) -> Present[int] | NotAvailable:
    """Say that a score is one model's."""
    if not sources.models:
        return not_available(NO_MODEL)
    text = (
        "None: each score of a test slide is one model's, the one of its fold; numbers are means over seeds."
    )
    return present(text, MODELS_A_SCORE)


def hashes(sources: ReportingSources) -> Present[Hashes]:
    """Tell the hashes of weights, slides, splits, settings, and the code's commit."""
    metrics = sources.metrics
    facts: Hashes = {
        "models": [
            {"recipe": recipe, "seed": one["seed"], "fold": one["fold"], "sha256": one["weights_sha256"]}
            for recipe, measured in metrics["recipes"].items()
            for one in measured["models"]
        ],
        "slides": dict(sources.fingerprints),
        "splits_sha256": sources.splits.sha256,
        "settings_hash": metrics["settings_hash"],
        "code": sources.git,
    }
    text = (
        f"{counted(len(facts['models']), 'model')} by the sha256 of their weights, "
        f"{counted(len(facts['slides']), 'slide')} by the fingerprint of their files, splits and settings by "
        f"theirs; code {sources.git}. Data and weights are shared by whoever holds them."
    )
    return present(text, facts)


def _epochs(history: Mapping[str, Any]) -> int:
    """Count the rows of a history."""
    return max((len(column) for column in history.values()), default=0)
