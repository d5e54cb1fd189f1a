"""Reporting items on results: performance on every partition, thresholds, failures, subgroups."""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from wsi_kd.evaluation.schema import (
    INSTANCE_METRICS,
    SLIDE_METRICS,
    PooledMetric,
    ScoreSummary,
)
from wsi_kd.report.gallery_choice import is_right, score_of, sureness, threshold_of
from wsi_kd.report.named_scores import NamedScore, curve_scores, main_recipe
from wsi_kd.report.numbers import counted
from wsi_kd.report.reporting_cohort import NO_MODEL
from wsi_kd.report.reporting_result_facts import (
    CalibrationOf,
    Failures,
    MetricNames,
    ModelThresholds,
    PartitionPerformance,
    Robustness,
    SubgroupArea,
    TileAgreement,
    Uncertainty,
    WrongCall,
)
from wsi_kd.report.reporting_sources import ReportingSources
from wsi_kd.report.reporting_values import Interval, NotAvailable, Present, not_available, present

TRAIN_UNSCORED: Final = (
    "models score validation and test slides alone; on slides that they were fitted to numbers say nothing"
)
METHOD: Final = "percentile interval of resamples of patients, models as they are"
HEADLINE: Final = "roc_auc"
NO_VALIDATION: Final = "no validation slide was scored"
NO_SUBGROUP: Final = (
    "no two sites and no two scanners are known, and no other column of the manifest has 2 to 20 values, or "
    "none was asked for (evaluate.subgroups)"
)

Part: TypeAlias = Literal["train", "val", "test"]


def metrics_item(sources: ReportingSources) -> Present[MetricNames] | NotAvailable:
    """Name what is measured."""
    if not sources.metrics["recipes"]:
        return not_available(NO_MODEL)
    has_tiles = any(measured["instances"] for measured in sources.metrics["recipes"].values())
    facts: MetricNames = {"slides": list(SLIDE_METRICS), "tiles": list(INSTANCE_METRICS) if has_tiles else []}
    tiles = ", ".join(facts["tiles"]) or "none, no tile has a label"
    text = f"Slides: {', '.join(facts['slides'])}; tiles: {tiles}."
    return present(text, facts)


def uncertainty(sources: ReportingSources) -> Present[Uncertainty] | NotAvailable:
    """Tell how intervals are made."""
    pooled = [score.metrics["pooled"][HEADLINE] for score in curve_scores(sources.metrics)]
    if not pooled:
        return not_available(NO_MODEL)
    resamples = max(one["resamples"] for one in pooled)
    confidence = pooled[0]["confidence"]
    facts: Uncertainty = {"method": METHOD, "confidence": confidence, "resamples": resamples}
    return present(f"{confidence:.0%} {METHOD}: {resamples:,} of them.", facts)


def robustness(sources: ReportingSources) -> Present[Robustness] | NotAvailable:
    """Tell how far numbers move with seed and fold, and what they are held against."""
    scores = curve_scores(sources.metrics)
    if not scores:
        return not_available(NO_MODEL)
    facts: Robustness = {
        "spreads": [
            {
                "recipe": one.recipe,
                "score": one.score,
                "sd_over_seeds": one.metrics["over_seeds"][HEADLINE]["sd"],
                "sd_over_folds": one.metrics["over_folds"][HEADLINE]["sd"],
            }
            for one in scores
        ],
        "baselines": list(sources.metrics["baselines"]),
    }
    seeds = len({model.seed for model in sources.models})
    text = (
        f"Varied: {counted(seeds, 'seed')}, {counted(len(sources.splits.folds), 'fold')}; held against the "
        f"last epoch and baselines {', '.join(facts['baselines']) or '(none)'}. Changed scanners, stains or "
        "inputs were not tried."
    )
    return present(text, facts)


def explainability(sources: ReportingSources) -> Present[list[TileAgreement]] | NotAvailable:
    """Tell how well tile scores agree with what annotators drew."""
    recipes = sources.metrics["recipes"]
    found: list[TileAgreement] = [
        {"recipe": recipe, "score": score, "auc": area["estimate"], "low": area["low"], "high": area["high"]}
        for recipe, measured in recipes.items()
        for score, tiles in measured["instances"].items()
        for area in [tiles["pooled"][HEADLINE]]
    ]
    if not found:
        reasons = sorted({measured["instances_reason"] for measured in recipes.values()} - {""})
        return not_available(f"heatmaps are not checked: {'; '.join(reasons) or NO_MODEL}")
    return present(f"Heatmaps; {counted(len(found), 'tile score')} measured against annotations.", found)


def performance(sources: ReportingSources) -> Present[list[PartitionPerformance]] | NotAvailable:
    """Give every score on train, val and test, with intervals, or say why not."""
    found = list(_performance(sources))
    if not found:
        return not_available(NO_MODEL)
    text = (
        "Test and validation below, with intervals; validation chose epochs and thresholds, so that it "
        f"flatters. Train: not available: {TRAIN_UNSCORED}."
    )
    return present(text, found)


def threshold_origin(sources: ReportingSources) -> Present[list[ModelThresholds]] | NotAvailable:
    """Tell of every model by which rule, on which part, its thresholds were chosen."""
    found: list[ModelThresholds] = [
        {
            "recipe": recipe,
            "seed": model["seed"],
            "fold": model["fold"],
            "rule": model["threshold_rule"],
            "chosen_on": model["threshold_split"],
            "values": model["thresholds"],
        }
        for recipe, measured in sources.metrics["recipes"].items()
        for model in measured["models"]
    ]
    if not found:
        return not_available(NO_MODEL)
    rules = ", ".join(sorted({f"{one['rule']} on {one['chosen_on']}" for one in found}))
    return present(
        f"{rules}, each fold by itself; values of {counted(len(found), 'model')} in the facts.", found
    )


def failures(sources: ReportingSources) -> Present[Failures] | NotAvailable:
    """List the wrong calls of the main recipe's score, the surest first."""
    recipe = main_recipe(sources.metrics)
    if recipe is None:
        return not_available(NO_MODEL)
    score = "student" if "student" in sources.metrics["recipes"][recipe]["scores"] else "teacher"
    negative = sources.metrics["classes"][0]
    calls = [
        (row, model) for model in sources.models if model.recipe == recipe for row in model.test if row.label
    ]
    if not calls:
        return not_available("no test slide has a label")
    wrong: list[WrongCall] = [
        {
            "slide_id": row.slide_id,
            "case_id": row.case_id,
            "seed": model.seed,
            "fold": model.fold,
            "label": row.label,
            "call": row.student_call if score == "student" else row.teacher_call,
            "probability": score_of(row, score),
            "threshold": threshold_of(row, score),
        }
        for row, model in sorted(calls, key=lambda call: (-sureness(call[0], score), call[0].slide_id))
        if not is_right(row, score, negative)
    ]
    text = (
        f"{len(wrong):,} of {counted(len(calls), 'call')} of {recipe} {score} are wrong, listed below; "
        "slides that failed before any model are in the flow."
    )
    return present(text, {"recipe": recipe, "score": score, "calls": len(calls), "wrong": wrong})


def subgroups_item(sources: ReportingSources) -> Present[list[SubgroupArea]] | NotAvailable:
    """Give the AUC of every group of every score."""
    found: list[SubgroupArea] = [
        {
            "recipe": one.recipe,
            "score": one.score,
            "column": group["column"],
            "value": group["value"],
            "slides": group["slides"],
            "cases": group["cases"],
            "small": group["small"],
            "auc": interval(group["roc_auc"]),
        }
        for one in curve_scores(sources.metrics)
        for group in one.metrics["subgroups"]
    ]
    if not found:
        return not_available(NO_SUBGROUP)
    columns = ", ".join(dict.fromkeys(group["column"] for group in found))
    small = sum(group["small"] for group in found)
    return present(f"By {columns}; {small:,} of {len(found):,} lines have fewer than 20 cases.", found)


def calibration_item(sources: ReportingSources) -> Present[list[CalibrationOf]] | NotAvailable:
    """Give ECE, Brier score and slope of every score, as scored."""
    found: list[CalibrationOf] = [
        {
            "recipe": one.recipe,
            "score": one.score,
            "ece": interval(before["ece"]),
            "brier": interval(before["brier"]),
            "slope": interval(before["slope"]),
        }
        for one in curve_scores(sources.metrics)
        for before in [one.metrics["calibration"]["before"]]
    ]
    if not found:
        return not_available(NO_MODEL)
    text = "ECE, Brier score and slope of every score, as scored; the section has them scaled too."
    return present(text, found)


def interval(pooled: PooledMetric) -> Interval:
    """Take of a `PooledMetric` what a reader is owed."""
    return {
        "estimate": pooled["estimate"],
        "low": pooled["low"],
        "high": pooled["high"],
        "confidence": pooled["confidence"],
        "reason": pooled["reason"],
    }


def _performance(sources: ReportingSources) -> Iterator[PartitionPerformance]:
    for one in curve_scores(sources.metrics):
        validation = sources.validation.get((one.recipe, one.score))
        yield _unmeasured(one, "train", TRAIN_UNSCORED)
        yield (
            _unmeasured(one, "val", NO_VALIDATION)
            if validation is None
            else _measured(one, "val", validation)
        )
        yield _measured(one, "test", one.metrics)


def _measured(score: NamedScore, part: Part, summary: ScoreSummary) -> PartitionPerformance:
    return {
        "recipe": score.recipe,
        "score": score.score,
        "part": part,
        "slides": summary["per_seed"][0]["slides"],
        "metrics": {name: interval(summary["pooled"][name]) for name in SLIDE_METRICS},
        "reason": "",
    }


def _unmeasured(score: NamedScore, part: Part, reason: str) -> PartitionPerformance:
    return {
        "recipe": score.recipe,
        "score": score.score,
        "part": part,
        "slides": None,
        "metrics": {},
        "reason": reason,
    }
