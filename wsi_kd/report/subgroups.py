"""Section of subgroups: does a score hold in every site, on every scanner, in every group that is named."""

from collections.abc import Iterator, Sequence

from wsi_kd.evaluation.schema import Metrics, Subgroup
from wsi_kd.report.named_scores import NamedScore, curve_scores, main_recipe
from wsi_kd.report.numbers import count_cell, interval_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table

HEADING = "Subgroups"
FEW = "fewer than 20 cases"
TELLING, SLIDES_A_GROUP = 0.9, 3
"""A column that calls such a share of the slides rightly is told of, where it has so many slides a group."""
HEADINGS = ("Slides", "Cases", "Positive", "AUC", "Sensitivity", "Specificity")


def subgroup_section(metrics: Metrics) -> Section:
    """Build a table a score: one line a group, small ones marked."""
    scores = curve_scores(metrics)
    found = [score for score in scores if score.metrics["subgroups"]]
    if not found:
        text = (
            "No subgroup: no two sites and no two scanners are known, and no other column of the manifest "
            "has 2 to 20 values, or none was asked for. Columns are chosen by evaluate.subgroups."
        )
        return Section("subgroups", HEADING, (Note(text),))
    blocks: list[Block] = [Note(_lead())]
    small = {_group(group) for score in found for group in score.metrics["subgroups"] if group["small"]}
    if small:
        shown = ", ".join(sorted(small)[:8]) + (" and others" if len(small) > 8 else "")  # noqa: PLR2004
        text = (
            f"Read with care: {FEW} in {shown}. Such intervals are wide; a gap between groups may be chance."
        )
        blocks.append(Note(text, caution=True))
    blocks += [Note(text, caution=True) for text in confounded(found[0].metrics["subgroups"])]
    main = main_recipe(metrics)
    blocks += [_table(score, folded=score.recipe != main) for score in found]
    return Section("subgroups", HEADING, tuple(blocks))


def confounded(groups: Sequence[Subgroup]) -> Iterator[str]:
    """Tell of each column that calls most slides rightly by itself, every group its commoner class.

    A column that follows the label (all tumors from one scanner) lets any score look good that tells scanners
    apart. Told from a share of `TELLING` on, where that leaves at most half of the errors of one call for
    all, and where groups have `SLIDES_A_GROUP` slides on average: small groups fit any label.
    """
    for column in dict.fromkeys(group["column"] for group in groups):
        counts = [(group["positives"], group["slides"]) for group in groups if group["column"] == column]
        positives, slides = (sum(parts) for parts in zip(*counts, strict=True))
        wrong = sum(min(positive, total - positive) for positive, total in counts)
        enough = slides >= SLIDES_A_GROUP * len(counts)
        if enough and slides - wrong >= TELLING * slides and 2 * wrong < min(positives, slides - positives):
            yield (
                f"Read with care: {column} alone calls {slides - wrong} of {slides} slides rightly, each "
                f"group its commoner class: a score may have learned {column} and not the tissue."
            )


def _lead() -> str:
    return (
        "Test slides of one value of one column by themselves, sensitivity and specificity at each model's "
        "stored threshold. A group is not corrected for what else differs between groups, nor for how many "
        "groups are looked at."
    )


def _group(group: Subgroup) -> str:
    return f"{group['column']} {group['value'] or '(none named)'}"


def _table(score: NamedScore, *, folded: bool) -> Table:
    columns = (Column("Group"), Column("Value"), *(Column(text, numeric=True) for text in HEADINGS))
    rows = tuple(_row(group) for group in score.metrics["subgroups"])
    return Table(f"{score.name} by subgroup: estimate and interval", columns, rows, folded=folded)


def _measured_cells(group: Subgroup) -> Iterator[Cell]:
    """Yield the measures; where nothing can be measured, the reason stands once, beside the value."""
    for metric in (group["roc_auc"], group["sensitivity"], group["specificity"]):
        cell = interval_cell(metric)
        yield cell._replace(note="") if group["reason"] else cell


def _row(group: Subgroup) -> tuple[Cell, ...]:
    notes = [FEW] if group["small"] else []
    notes += [group["reason"]] if group["reason"] else []
    return (
        Cell(group["column"]),
        Cell(group["value"] or "(none named)", note="; ".join(notes)),
        count_cell(group["slides"]),
        count_cell(group["cases"]),
        count_cell(group["positives"]),
        *_measured_cells(group),
    )
