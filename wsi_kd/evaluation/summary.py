"""The few lines that a finished run prints."""

from pathlib import Path

from wsi_kd.evaluation.schema import Comparisons, InstanceMetrics, Metrics, PooledMetric, RecipeMetrics

MORE_TILE_METRICS = {"roc_auc_within_slide": "within slides", "average_precision_positive_slides": "AP"}
"""Shown behind the instance AUC: what the easy tiles of negative slides cannot lift."""
FLAT = "An interval without width says that no resample of patients changed the AUC, not that it is certain."


def summary_lines(metrics: Metrics, *, report_path: Path) -> list[str]:
    """Tell slides, AUCs with intervals by recipe and score, the baselines, and the report's path.

    A slide score of a recipe ends with its difference from the baseline recipe's teacher, a tile score with
    the AUC within slides and the average precision in positive slides.
    """
    cohort = metrics["cohort"]
    failed = cohort["slides"] - cohort["flow"].get("ok", 0)
    lines = [f"{cohort['slides']} slides of {cohort['cases']} cases, {failed} left out (see the report)"]
    for recipe, measured in metrics["recipes"].items():
        for score in distinct_scores(measured):
            line = _line(f"{recipe} {score}", "bag AUC", measured["scores"][score]["pooled"]["roc_auc"])
            lines.append(f"{line}{_against(metrics['comparisons'], recipe, score)}")
        for score, tile_metrics in measured["instances"].items():
            line = _line(f"{recipe} {score}", "instance AUC", tile_metrics["pooled"]["roc_auc"])
            lines.append(f"{line}{_more(tile_metrics)}")
    for name, slide_metrics in metrics["baselines"].items():
        lines.append(_line(f"baseline {name}", "bag AUC", slide_metrics["pooled"]["roc_auc"]))
    flat = [FLAT] if any(map(_is_flat, _slide_areas(metrics))) else []
    return [*lines, *flat, metrics["research_only"], f"report: {report_path}"]


def distinct_scores(measured: RecipeMetrics) -> list[str]:
    """Return the slide scores without the pooling of the student that `student` stands for already."""
    deployed = {f"student_{model['student_pooling']}" for model in measured["models"]}
    return [score for score in measured["scores"] if score not in deployed]


def _slide_areas(metrics: Metrics) -> list[PooledMetric]:
    of_recipes = [score for recipe in metrics["recipes"].values() for score in recipe["scores"].values()]
    return [score["pooled"]["roc_auc"] for score in (*of_recipes, *metrics["baselines"].values())]


def _is_flat(metric: PooledMetric) -> bool:
    return metric["low"] is not None and metric["low"] == metric["high"]


def _line(who: str, what: str, metric: PooledMetric) -> str:
    start = f"{who:<24} {what:<13}"
    if metric["estimate"] is None:
        return f"{start} none ({metric['reason']})"
    if metric["low"] is None or metric["high"] is None:
        return f"{start} {metric['estimate']:.3f} (no interval: {metric['reason']})"
    percent = f"{100 * metric['confidence']:g} %"
    return f"{start} {metric['estimate']:.3f} ({percent} interval {metric['low']:.3f}-{metric['high']:.3f})"


def _against(comparisons: Comparisons, recipe: str, score: str) -> str:
    for record in comparisons["slides"]:
        found = record["metrics"]["roc_auc"]
        if (record["recipe"], record["score"]) == (recipe, score) and found["estimate"] is not None:
            tested = "" if found["p_value"] is None else f", p {found['p_value']:.3f}"
            return f"; {found['estimate']:+.3f} on {record['against_recipe']}{tested}"
    return ""


def _more(tile_metrics: InstanceMetrics) -> str:
    shown = []
    for metric, name in MORE_TILE_METRICS.items():
        value = tile_metrics["pooled"][metric]["estimate"]
        chance = tile_metrics["chance"].get(metric)
        by_chance = "" if chance is None else f" (chance {chance:.3f})"
        shown += [] if value is None else [f"{name} {value:.3f}{by_chance}"]
    return "".join(f"; {text}" for text in shown)
