"""The few lines that a finished run prints."""

from pathlib import Path

from wsi_kd.evaluation.schema import Metrics, PooledMetric


def summary_lines(metrics: Metrics, *, report_path: Path) -> list[str]:
    """Tell slides, AUCs with intervals by recipe and score, the baselines, and the report's path."""
    cohort = metrics["cohort"]
    failed = cohort["slides"] - cohort["flow"].get("ok", 0)
    lines = [f"{cohort['slides']} slides of {cohort['cases']} cases, {failed} left out (see the report)"]
    for recipe, measured in metrics["recipes"].items():
        for score, slide_metrics in measured["scores"].items():
            lines.append(_line(f"{recipe} {score}", "bag AUC", slide_metrics["pooled"]["roc_auc"]))
        for score, tile_metrics in measured["instances"].items():
            lines.append(_line(f"{recipe} {score}", "instance AUC", tile_metrics["pooled"]["roc_auc"]))
    for name, slide_metrics in metrics["baselines"].items():
        lines.append(_line(f"baseline {name}", "bag AUC", slide_metrics["pooled"]["roc_auc"]))
    return [*lines, metrics["research_only"], f"report: {report_path}"]


def _line(who: str, what: str, metric: PooledMetric) -> str:
    start = f"{who:<20} {what:<13}"
    if metric["estimate"] is None:
        return f"{start} none ({metric['reason']})"
    if metric["low"] is None or metric["high"] is None:
        return f"{start} {metric['estimate']:.3f} (no interval: {metric['reason']})"
    percent = f"{100 * metric['confidence']:g} %"
    return f"{start} {metric['estimate']:.3f} ({percent} interval {metric['low']:.3f}-{metric['high']:.3f})"
