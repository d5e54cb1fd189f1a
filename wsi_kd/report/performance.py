"""Sections of numbers: how well slides are told apart, over all, by fold, and at the last epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsi_kd.evaluation.schema import Metrics, ModelRecord, PooledMetric, RecipeMetrics
from wsi_kd.evaluation.slide_metrics import BINARY
from wsi_kd.evaluation.summary import distinct_scores
from wsi_kd.inference.calls import positive_name
from wsi_kd.report.figures import Estimate, interval_chart
from wsi_kd.report.named_scores import NamedSummary, summaries
from wsi_kd.report.numbers import count_cell, interval_cell, known_cell, metric_cell, spread_cell
from wsi_kd.report.page import LONG_TABLE, Block, Cell, Chart, Column, Note, Section, Table
from wsi_kd.report.record import model_name

SLIDE_HEADINGS = {
    "roc_auc": "AUC",
    "average_precision": "Average precision",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
FEW_POSITIVES = 20


def performance_section(metrics: Metrics) -> Section:
    """Build every slide score and baseline with intervals, and how to read them."""
    scores = tuple(summaries(metrics))
    blocks: list[Block] = [
        Note(_how_to_read(metrics, scores)),
        *_cautions(metrics, scores),
        _all_scores(scores),
    ]
    estimates = [estimate for score in scores if (estimate := _estimate(score)) is not None]
    if estimates:
        confidence = scores[0].metrics["pooled"]["roc_auc"]["confidence"]
        svg = interval_chart("intervals", estimates, metric="bag AUC", confidence=confidence)
        blocks.append(Chart(svg, f"Bag AUC with {confidence:.0%} intervals; dashed: chance."))
    return Section("performance", "Slides: every score and baseline", tuple(blocks))


def last_epoch_section(metrics: Metrics) -> Section:
    """Build the comparison of the selected epoch with the last one."""
    lead = (
        "Each model is the epoch with the lowest loss on its fold's validation part. Beside it, the epoch at "
        "which training ended (now and then the same one), measured on the same test slides: it is shown, "
        "never used. A large gap says that the selection, on few slides, matters as much as the method."
    )
    headings = ("Bag AUC, selected", "Bag AUC, last", "Instance AUC, selected", "Instance AUC, last")
    columns = (Column("Score"), *(Column(heading, numeric=True) for heading in headings))
    rows = tuple(
        _last_epoch_row(model_name(recipe, name), name, record)
        for recipe, record in metrics["recipes"].items()
        for name in dict.fromkeys((*distinct_scores(record), *record["instances"]))
    )
    table = Table("Selected and last epoch: estimate and interval", columns, rows)
    return Section("epochs", "Selected and last epoch", (Note(lead), table))


def fold_section(metrics: Metrics) -> Section:
    """Build the table of every fold and seed."""
    headings = ("Seed", "Fold", "Slides", "Positive", "Threshold", *SLIDE_HEADINGS.values(), "F1")
    columns = (Column("Model"), *(Column(heading, numeric=True) for heading in headings))
    rows = tuple(
        _fold_row(score.name, record) for score in summaries(metrics) for record in score.metrics["per_fold"]
    )
    table = Table("Test part of every fold", columns, rows, folded=len(rows) > LONG_TABLE)
    return Section("folds", "Every fold", (table,))


def _all_scores(scores: tuple[NamedSummary, ...]) -> Table:
    headings = (*SLIDE_HEADINGS.values(), "AUC over seeds", "AUC over folds")
    columns = (Column("Model"), *(Column(heading, numeric=True) for heading in headings))
    rows = tuple(
        (
            Cell(score.name),
            *(interval_cell(score.metrics["pooled"][metric]) for metric in SLIDE_HEADINGS),
            spread_cell(score.metrics["over_seeds"]["roc_auc"]),
            spread_cell(score.metrics["over_folds"]["roc_auc"]),
        )
        for score in scores
    )
    return Table("Test slides: estimate and interval; mean and standard deviation", columns, rows)


def _how_to_read(metrics: Metrics, scores: tuple[NamedSummary, ...]) -> str:
    pooled = [score.metrics["pooled"]["roc_auc"] for score in scores]
    resamples = max((record["resamples"] for record in pooled), default=0)
    confidence = pooled[0]["confidence"] if pooled else 0.0
    models = [model for recipe in metrics["recipes"].values() for model in recipe["models"]]
    rules = ", ".join(sorted({model["threshold_rule"] for model in models}))
    parts = ", ".join(sorted({model["threshold_split"] for model in models}))
    seeds = len({model["seed"] for model in models})
    return (
        "A slide is scored by the models that had it in their test part. Estimates pool these "
        f"test scores over the folds and average {seeds} {'seed' if seeds == 1 else 'seeds'}; intervals are "
        f"{confidence:.0%} percentile intervals of {resamples:,} resamples of patients, with the models as "
        "they are: what another training would change is not in them. Scores of different folds come from "
        "different models; the mean over folds (of every seed) never compares across them. Thresholds: rule "
        f"{rules or 'none'}, chosen on the part '{parts or 'none'}' of each fold, never on test. "
        f"{_pooling(models)}"
        "Baselines: logistic regression on the mean of a slide's tile features, or of its color alone."
    )


def _pooling(models: Sequence[ModelRecord]) -> str:
    """Say what the student's slide score is."""
    ways = {
        "the largest" if model["student_pooling"] == "max" else f"the mean of the {model['top_k']} largest"
        for model in models
        if model["thresholds"]["student"] is not None
    }
    return f"A student scores a slide by {' or '.join(sorted(ways))} of its tiles' logits. " if ways else ""


def _cautions(metrics: Metrics, scores: tuple[NamedSummary, ...]) -> Iterator[Note]:
    records = [record for score in scores for record in score.metrics["per_seed"]]
    if not records:
        yield Note("Nothing was predicted: there is no model in this run.")
        return
    rarer = min(min(record["positives"], record["slides"] - record["positives"]) for record in records)
    flat = [score.name for score in scores if _is_flat(score.metrics["pooled"]["roc_auc"])]
    if flat:
        yield Note(
            f"Read with care: {', '.join(flat)}: an interval without width says that no resample changed the "
            "AUC, not that it is certain.",
            caution=True,
        )
    if rarer < FEW_POSITIVES:
        text = f"Read with care: the rarer class has {rarer} test slides (fewer than {FEW_POSITIVES})."
        yield Note(text, caution=True)
    if unlabeled := metrics["cohort"]["unlabeled"]:
        yield Note(
            f"{unlabeled:,} slides have no label: they are scored, and in no number here.", caution=True
        )
    classes = metrics["classes"]
    if len(classes) > BINARY:
        yield Note(
            f"Of the {len(classes)} classes, the AUC is the mean of each class against the rest; every other "
            f"number, and the ROC curves, tell {positive_name(classes)} from {classes[0]} only: whether the "
            "right one of the other classes was called is not in them.",
            caution=True,
        )
    yield Note(
        "Training, validation and test slides come from one cohort. How the models do on slides of another "
        "hospital, scanner or stain, this page cannot say.",
        caution=True,
    )


def _is_flat(pooled: PooledMetric) -> bool:
    return pooled["low"] is not None and pooled["low"] == pooled["high"]


def _estimate(score: NamedSummary) -> Estimate | None:
    pooled = score.metrics["pooled"]["roc_auc"]
    if pooled["estimate"] is None:
        return None
    return Estimate(score.name, pooled["estimate"], pooled["low"], pooled["high"])


def _last_epoch_row(label: str, score: str, record: RecipeMetrics) -> tuple[Cell, ...]:
    last = record["last"]
    found = (
        record["scores"].get(score),
        last["scores"].get(score),
        record["instances"].get(score),
        last["instances"].get(score),
    )
    cells = (Cell("") if one is None else interval_cell(one["pooled"]["roc_auc"]) for one in found)
    return (Cell(label), *cells)


def _fold_row(name: str, record: Mapping[str, Any]) -> tuple[Cell, ...]:
    fold = Cell("all", number=-1.0) if record["fold"] is None else count_cell(record["fold"])
    return (
        Cell(name),
        count_cell(record["seed"]),
        fold,
        count_cell(record["slides"]),
        count_cell(record["positives"]),
        known_cell(record["threshold"], "one a fold"),
        *(metric_cell(record[metric]) for metric in SLIDE_HEADINGS),
        metric_cell(record["f1"]),
    )
