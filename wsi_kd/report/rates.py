"""Section of ROC and precision-recall curves, as metrics.json holds them."""

from collections.abc import Iterator, Sequence

from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.measure_figures import Curve, pr_chart, roc_chart
from wsi_kd.report.named_scores import NamedScore, curve_scores
from wsi_kd.report.page import Block, Chart, Note, Section

HEADING = "ROC and precision-recall"


def curve_section(metrics: Metrics) -> Section:
    """Draw both curves of every teacher and student; what has none is named with its reason."""
    scores = curve_scores(metrics)
    if not scores:
        return Section("roc", HEADING, (Note("No curve: there is no model in this run."),))
    confidence = scores[0].metrics["pooled"]["roc_auc"]["confidence"]
    caption = (
        f"Test slides of all folds, mean over seeds; bands: {confidence:.0%} of the curves of resampled "
    )
    blocks: list[Block] = []
    if roc := [curve for score in scores for curve in _roc(score)]:
        svg = roc_chart("roc", roc, confidence=confidence)
        blocks.append(Chart(svg, f"{caption}patients. Dashed: chance."))
    if pr := [curve for score in scores for curve in _pr(score)]:
        chance = next((score.metrics["curves"]["pr"]["chance"] for score in scores), None)
        svg = pr_chart("pr", pr, chance=chance, confidence=confidence)
        share = "" if chance is None else f" Dashed: the share of positive slides, {chance:.2f}."
        blocks.append(Chart(svg, f"{caption}patients.{share}"))
    return Section("roc", HEADING, (*_absent(scores), *blocks))


def _roc(score: NamedScore) -> Iterator[Curve]:
    curve = score.metrics["curves"]["roc"]
    if curve["sensitivity"]:
        yield Curve(
            score.name, curve["false_positive_rate"], curve["sensitivity"], curve["low"], curve["high"]
        )


def _pr(score: NamedScore) -> Iterator[Curve]:
    curve = score.metrics["curves"]["pr"]
    if curve["recall"]:
        yield Curve(score.name, curve["recall"], curve["precision"], curve["low"], curve["high"])


def _absent(scores: Sequence[NamedScore]) -> list[Note]:
    """Say which scores have no curve and why; a reason that many share stands once."""
    names: dict[str, list[str]] = {}
    for score in scores:
        curves = score.metrics["curves"]
        for reason in {curves["roc"]["reason"], curves["pr"]["reason"]} - {""}:
            names.setdefault(reason, []).append(score.name)
    return [Note(f"{', '.join(sorted(set(named)))}: {reason}.") for reason, named in sorted(names.items())]
