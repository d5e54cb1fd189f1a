"""Section of calls: what a threshold makes of a score; every threshold was chosen on validation."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from wsi_kd.evaluation.schema import ConfusionCounts, FoldValue, Metrics, OperatingPoint
from wsi_kd.inference.calls import positive_name
from wsi_kd.report.named_scores import NamedScore, NamedSummary, curve_scores, main_recipe, summaries
from wsi_kd.report.numbers import TO, UNDEFINED, count_cell, interval_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table

Outcome: TypeAlias = Literal["true_positive", "false_positive", "true_negative", "false_negative"]
OUTCOMES: dict[Outcome, str] = {
    "true_positive": "True positive",
    "false_positive": "False positive",
    "true_negative": "True negative",
    "false_negative": "False negative",
}
RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}


def calls_section(metrics: Metrics) -> Section:
    """Build a table of operating points a score, and a matrix of truth against call a model."""
    lead = (
        "Every threshold was chosen on its fold's validation slides, never on test, so the sensitivity or "
        "specificity reached on test need not be the one that was asked for. Confusion counts are sums over "
        "folds, means over seeds. PPV and NPV hold at this cohort's share of positives."
    )
    main = main_recipe(metrics)
    blocks: list[Block] = [Note(lead)]
    blocks += [_points_table(score, folded=score.recipe != main) for score in curve_scores(metrics)]
    blocks.append(
        Note("Truth against call, each slide called at the threshold stored with its fold's model:")
    )
    blocks += [_matrix(score, metrics["classes"]) for score in summaries(metrics)]
    return Section("confusion", "Calls at chosen thresholds", tuple(blocks))


def _points_table(score: NamedScore, *, folded: bool) -> Table:
    columns = (
        Column("Rule"),
        Column("Thresholds", numeric=True),
        *(Column(heading, numeric=True) for heading in (*RATES.values(), *OUTCOMES.values())),
    )
    rows = tuple(_point_row(point) for point in score.metrics["operating_points"])
    return Table(f"{score.name}: operating points", columns, rows, folded=folded)


def _point_row(point: OperatingPoint) -> tuple[Cell, ...]:
    counts = point["confusion"]
    return (
        Cell(
            _rule(point), note=f"chosen on {point['chosen_on']}" if not point["reason"] else point["reason"]
        ),
        _threshold_cell(point["thresholds"]),
        *(interval_cell(point[rate]) for rate in RATES),  # type: ignore[literal-required]
        *(_count(None if counts is None else counts[key]) for key in OUTCOMES),
    )


def _rule(point: OperatingPoint) -> str:
    """Say what a rule asks for.

    >>> _rule({"rule": "sensitivity", "target": 0.95})
    'Sensitivity ≥ 0.95'
    """
    names = {"youden": "Youden's index", "checkpoint": "As stored with the model"}
    if point["target"] is None:
        return names.get(point["rule"], point["rule"])
    return f"{point['rule'].capitalize()} \N{GREATER-THAN OR EQUAL TO} {point['target']:g}"


def _threshold_cell(thresholds: Sequence[FoldValue]) -> Cell:
    values = [part["value"] for part in thresholds if part["value"] is not None]
    reasons = "; ".join(sorted({part["reason"] for part in thresholds} - {""}))
    if not values:
        return Cell(UNDEFINED, note=reasons)
    low, high = min(values), max(values)
    text = f"{low:.3f}" if low == high else f"{low:.3f}{TO}{high:.3f}"
    return Cell(text, note=reasons, number=sum(values) / len(values))


def _count(value: float | None) -> Cell:
    if value is None:
        return Cell(UNDEFINED)
    return Cell(f"{value:,.0f}" if value == round(value) else f"{value:,.1f}", number=float(value))


def _matrix(score: NamedSummary, classes: list[str]) -> Table:
    positive, negative = positive_name(classes), classes[0]
    counts = [record["confusion"] for record in score.metrics["per_seed"]]
    columns = (
        Column("Truth"),
        Column(f"called {positive}", numeric=True),
        Column(f"called {negative}", numeric=True),
    )
    rows = (
        (Cell(positive), _mean_count(counts, "true_positive"), _mean_count(counts, "false_negative")),
        (Cell(negative), _mean_count(counts, "false_positive"), _mean_count(counts, "true_negative")),
    )
    return Table(score.name, columns, rows, compact=True)


def _mean_count(counts: list[ConfusionCounts], key: Outcome) -> Cell:
    values = [count[key] for count in counts]
    if len(values) == 1:
        return count_cell(values[0])
    mean = sum(values) / max(len(values), 1)
    return Cell(f"{mean:.1f}", note=f"by seed: {', '.join(map(str, values))}", number=mean)
