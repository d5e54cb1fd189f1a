"""Sections on probabilities: do they agree with frequencies, and would acting on them be worth it."""

from collections.abc import Iterator, Sequence

from wsi_kd.evaluation.schema import Calibration, CalibrationRecord, DecisionCurve, FoldValue, Metrics
from wsi_kd.report.measure_figures import (
    Benefit,
    Curve,
    Reliability,
    ReliabilityPoint,
    decision_chart,
    reliability_chart,
)
from wsi_kd.report.named_scores import NamedScore, curve_scores, main_recipe
from wsi_kd.report.numbers import TO, UNDEFINED, count_cell, interval_cell, number_cell
from wsi_kd.report.page import Block, Cell, Chart, Column, Note, Section, Table

CALIBRATION_COLUMNS = {
    "ece": "ECE",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "slope": "Slope",
    "intercept": "Intercept",
}


def calibration_section(metrics: Metrics) -> Section:
    """Build the reliability diagrams and the table of calibration, before and after temperature scaling."""
    heading = "Calibration"
    scores = curve_scores(metrics)
    if not scores:
        return Section("calibration", heading, (Note("No calibration: there is no model in this run."),))
    lead = (
        "A calibrated score of 0.8 is right about 8 slides of 10. ECE is the mean distance from that, over "
        "bins of equally many slides; beside it what chance alone makes of so few slides, hence an ECE near "
        "it is no fault. Brier score and log loss: smaller is better. Slope below 1: too extreme; intercept "
        "above 0: too low probabilities. 'Scaled': each model's logits divided by one temperature, which was "
        "fitted on its fold's validation slides, never on test; calls do not change by it."
    )
    folded = main_recipe(metrics)
    charts = [
        block
        for position, score in enumerate(scores)
        for block in _reliability(score, f"reliability-{position}", folded=score.recipe != folded)
    ]
    headings = ("Slides", *CALIBRATION_COLUMNS.values(), "ECE by chance", "Temperature")
    columns = (Column("Score"), Column("Version"), *(Column(text, numeric=True) for text in headings))
    rows = tuple(row for score in scores for row in _calibration_rows(score))
    table = Table("Calibration: estimate and interval", columns, rows)
    return Section("calibration", heading, (Note(lead), *charts, table))


def decision_section(metrics: Metrics) -> Section:
    """Draw the decision curve of every teacher and student."""
    heading = "Decision curve"
    scores = curve_scores(metrics)
    if not scores:
        return Section("decision", heading, (Note("No decision curve: there is no model in this run."),))
    lead = (
        "Whoever would act on a slide at a probability of 0.1 takes nine false alarms for one true finding: "
        "that is a threshold probability. Net benefit is the share of true positives less the false ones at "
        "that rate of exchange (Vickers and Elkin 2006). A score is of use where its line lies above both "
        "'call all positive' and 'call none positive'. The share of positives is this cohort's: in a clinic "
        "with another one the lines lie elsewhere."
    )
    main = main_recipe(metrics)
    blocks = [
        _decision(score, f"decision-{position}", folded=score.recipe != main)
        for position, score in enumerate(scores)
    ]
    return Section("decision", heading, (Note(lead), *blocks))


def _reliability(score: NamedScore, name: str, *, folded: bool) -> Iterator[Block]:
    calibration = score.metrics["calibration"]
    versions = [
        Reliability(version, _points(record))
        for version, record in (("as scored", calibration["before"]), ("scaled", calibration["after"]))
        if record["bins"]
    ]
    if not versions:
        yield Note(f"{score.name}: no reliability diagram: {_why(calibration)}.")
        return
    bins = calibration["before"]["bins"]
    counted = f"{len(bins)} bins of about {sum(part['count'] for part in bins) // max(len(bins), 1)} scores"
    svg = reliability_chart(name, versions, score=score.name)
    yield Chart(svg, f"{score.name}: {counted}; bars: Wilson's intervals by patients.", folded=folded)


def _points(record: CalibrationRecord) -> tuple[ReliabilityPoint, ...]:
    return tuple(
        ReliabilityPoint(
            part["mean_probability"],
            part["observed"],
            part["observed_low"],
            part["observed_high"],
            part["count"],
        )
        for part in record["bins"]
    )


def _why(calibration: Calibration) -> str:
    return calibration["reason"] or calibration["before"]["reason"] or "no slide was scored"


def _calibration_rows(score: NamedScore) -> Iterator[tuple[Cell, ...]]:
    calibration = score.metrics["calibration"]
    temperatures = _temperature_cell(calibration["temperatures"])
    for version, record, told in (
        ("as scored", calibration["before"], Cell("")),
        ("scaled", calibration["after"], temperatures),
    ):
        yield (
            Cell(score.name),
            Cell(version, note=record["reason"]),
            count_cell(calibration["slides"]),
            *_measured_cells(record),
            told,
        )


def _measured_cells(record: CalibrationRecord) -> Iterator[Cell]:
    """Yield the measures; where there are none, the reason stands once, in the column before."""
    for key in CALIBRATION_COLUMNS:
        cell = interval_cell(record[key])  # type: ignore[literal-required]
        yield cell._replace(note="") if record["reason"] else cell
    yield number_cell(record["ece_if_calibrated"])


def _temperature_cell(temperatures: Sequence[FoldValue]) -> Cell:
    """Tell the range over models; a reason (none could be fitted, one lies at a limit) below it."""
    values = [part["value"] for part in temperatures if part["value"] is not None]
    reasons = sorted({part["reason"] for part in temperatures} - {""})
    if not values:
        return Cell(UNDEFINED, note="; ".join(reasons))
    low, high = min(values), max(values)
    text = f"{low:.2f}" if low == high else f"{low:.2f}{TO}{high:.2f}"
    return Cell(text, note="; ".join(reasons), number=sum(values) / len(values))


def _decision(score: NamedScore, name: str, *, folded: bool) -> Block:
    curve = score.metrics["decision_curve"]
    if curve["reason"] or not curve["thresholds"]:
        return Note(f"{score.name}: no decision curve: {curve['reason'] or 'no slide was scored'}.")
    confidence = score.metrics["pooled"]["roc_auc"]["confidence"]
    svg = decision_chart(name, _benefit(score.name, curve), confidence=confidence)
    prevalence = (
        "" if curve["prevalence"] is None else f"; {curve['prevalence']:.0%} of the slides are positive"
    )
    return Chart(svg, f"{score.name}, test slides{prevalence}; cut off far below zero.", folded=folded)


def _benefit(name: str, curve: DecisionCurve) -> Benefit:
    x = curve["thresholds"]
    scaled = None if curve["scaled"] is None else Curve("scaled by temperature", x, curve["scaled"])
    return Benefit(
        model=Curve(name, x, curve["model"], curve["low"], curve["high"]),
        scaled=scaled,
        treat_all=Curve("call all positive", x, curve["all"]),
    )
