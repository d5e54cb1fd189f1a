"""The first table: teacher, student and evidence, pooled with intervals and fold by fold."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from wsi_kd.evaluation.schema import FoldArea, Metrics, PooledMetric, Spread
from wsi_kd.report.named_scores import NamedScore, curve_scores
from wsi_kd.report.numbers import interval_cell, number_cell, spread_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table
from wsi_kd.report.record import model_name

TILE_SCORES = ("attention", "evidence", "student")
TILE_NAMES = {"attention": "teacher attention", "evidence": "teacher evidence", "student": "student"}
METRIC: Final = "roc_auc"


class Line(NamedTuple):
    """One score's AUC: pooled over folds, and of every fold by itself."""

    recipe: str
    score: str
    pooled: PooledMetric
    over_folds: Spread
    folds: Sequence[FoldArea]


def headline_section(metrics: Metrics) -> Section:
    """Build the tables of slide and tile AUC: a line a score, pooled with its interval, then each fold."""
    heading = "In short"
    slides, tiles = list(_slide_lines(metrics)), list(_tile_lines(metrics))
    if not slides:
        return Section("headline", heading, (Note("Nothing was predicted: there is no model in this run."),))
    confidence = slides[0].pooled["confidence"]
    lead = (
        "How well slides, and the tiles in them, are told apart: area under the ROC curve on test slides; "
        f"0.5 is chance, 1 is perfect. Pooled over folds, then every fold by itself (mean over seeds), with "
        f"{confidence:.0%} intervals by resampling patients."
    )
    blocks: list[Block] = [Note(lead), _table("Slides: AUC", slides)]
    blocks.append(_table("Tiles: AUC, all labeled tiles", tiles) if tiles else Note(_no_tiles(metrics)))
    return Section("headline", heading, tuple(blocks))


def _no_tiles(metrics: Metrics) -> str:
    reasons = sorted({measured["instances_reason"] for measured in metrics["recipes"].values()} - {""})
    return f"Tiles: not measured: {'; '.join(reasons) or 'no tile has a label'}."


def _slide_lines(metrics: Metrics) -> Iterator[Line]:
    for score in curve_scores(metrics):
        yield _slide_line(score)


def _slide_line(score: NamedScore) -> Line:
    found = score.metrics
    return Line(
        score.recipe, score.score, found["pooled"][METRIC], found["over_folds"][METRIC], found["folds"]
    )


def _tile_lines(metrics: Metrics) -> Iterator[Line]:
    for recipe, measured in metrics["recipes"].items():
        for name in TILE_SCORES:
            record = measured["instances"].get(name)
            if record is not None:
                pooled, over_folds = record["pooled"][METRIC], record["over_folds"][METRIC]
                yield Line(recipe, TILE_NAMES[name], pooled, over_folds, record["folds"])


def _table(caption: str, lines: Sequence[Line]) -> Table:
    folds = sorted({part["fold"] for line in lines for part in line.folds})
    shown = folds if len(folds) > 1 else []
    headings = ("Pooled", *(f"Fold {fold}" for fold in shown), *(("Over folds",) if shown else ()))
    columns = (Column("Score"), *(Column(heading, numeric=True) for heading in headings))
    rows = tuple(
        (
            Cell(model_name(line.recipe, line.score)),
            interval_cell(line.pooled),
            *(_fold_cell(line, fold) for fold in shown),
            *((spread_cell(line.over_folds),) if shown else ()),
        )
        for line in lines
    )
    return Table(caption, columns, rows, compact=True)


def _fold_cell(line: Line, fold: int) -> Cell:
    """Show a fold's mean over seeds with its interval; a score may lack a fold that another has."""
    found = next((part[METRIC] for part in line.folds if part["fold"] == fold), None)
    return number_cell(None, "not measured") if found is None else interval_cell(found)
