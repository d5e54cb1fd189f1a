"""Section of tile scores: areas against tile labels, and FROC against lesions."""

from collections.abc import Iterator

from wsi_kd.evaluation.schema import Froc, InstanceMetrics, Metrics
from wsi_kd.report.measure_figures import Curve, froc_chart
from wsi_kd.report.named_scores import main_recipe
from wsi_kd.report.numbers import UNDEFINED, interval_cell, known_cell
from wsi_kd.report.page import Block, Cell, Chart, Column, Note, Section, Table
from wsi_kd.report.record import model_name

HEADING = "Tiles: where the models look"
INSTANCE_HEADINGS = {
    "roc_auc": "AUC: all tiles",
    "average_precision": "AP: all tiles",
    "roc_auc_positive_slides": "AUC: positive slides",
    "average_precision_positive_slides": "AP: positive slides",
    "roc_auc_within_slide": "AUC: within slide",
    "average_precision_within_slide": "AP: within slide",
}


def tile_section(metrics: Metrics) -> Section:
    """Build the table of tile scores against tile labels, and the FROC curves where there are lesions."""
    scores = [
        (recipe, name, record)
        for recipe, measured in metrics["recipes"].items()
        for name, record in measured["instances"].items()
    ]
    if not scores:
        reasons = sorted({measured["instances_reason"] for measured in metrics["recipes"].values()} - {""})
        why = "; ".join(reasons) or "there is no model in this run"
        return Section("tiles", HEADING, (Note(f"Tile scores cannot be measured: {why}."),))
    headings = (Column("Tile score"), *(Column(text, numeric=True) for text in INSTANCE_HEADINGS.values()))
    rows = (
        _chance_row(scores[0][2]),
        *(_instance_row(model_name(recipe, name), record) for recipe, name, record in scores),
    )
    table = Table("Tile scores: estimate and interval", headings, rows)
    return Section("tiles", HEADING, (Note(_how_to_read(metrics)), table, *_froc_blocks(metrics)))


def _how_to_read(metrics: Metrics) -> str:
    cohort = metrics["cohort"]
    return (
        f"{cohort['labeled_tiles']:,} of {cohort['tiles']:,} tiles have a label, "
        f"{cohort['positive_tiles']:,} of them positive. Over all tiles, the many easy tiles of negative "
        "slides dominate; over positive slides alone, they cannot. Within slide: the mean over slides that "
        "hold both labels. AP: average precision, to be read against its chance in the first row. Evidence, "
        "the teacher's bag classifier on a tile alone, costs no distillation: a student must beat it. "
        "Training saw no tile label."
    )


def _instance_row(name: str, record: InstanceMetrics) -> tuple[Cell, ...]:
    cells = (interval_cell(record["pooled"][metric]) for metric in INSTANCE_HEADINGS)
    return (Cell(name, note=record["convention"]), *cells)


def _chance_row(record: InstanceMetrics) -> tuple[Cell, ...]:
    levels = {**dict.fromkeys(INSTANCE_HEADINGS, 0.5), **record["chance"]}
    note = "a score without information"
    return (Cell("Chance", note=note), *(known_cell(levels[key], "no tiles") for key in INSTANCE_HEADINGS))


def _froc_blocks(metrics: Metrics) -> Iterator[Block]:
    found = [
        (recipe, model_name(recipe, name), record["froc"])
        for recipe, measured in metrics["recipes"].items()
        for name, record in measured["instances"].items()
    ]
    drawn = [(recipe, name, froc) for recipe, name, froc in found if froc["curve"]["sensitivity"]]
    if not drawn:
        reasons = "; ".join(sorted({froc["reason"] for _, _, froc in found} - {""}))
        yield Note(f"No FROC curve: {reasons or 'no lesion is annotated'}.")
        return
    first = drawn[0][2]
    yield Note(
        f"FROC: {first['lesions']:,} lesions on {first['slides']:,} slides; {first['hit_rule']}. The "
        "score of CAMELYON16 is the mean share of lesions hit at 1/4, 1/2, 1, 2, 4 and 8 false positives a "
        "slide. In small print: the same with false positives counted over negative slides alone."
    )
    main = main_recipe(metrics)
    for position, recipe in enumerate(dict.fromkeys(recipe for recipe, _, _ in drawn)):
        chosen = [(name, froc) for owner, name, froc in drawn if owner == recipe]
        svg = froc_chart(
            f"froc-{position}",
            [_curve(name, froc) for name, froc in chosen],
            [froc["sensitivity"] for _, froc in chosen],
            rates=first["false_positives_per_slide"],
        )
        caption = f"FROC, {model_name(recipe, '').strip()}: mean over seeds; dots: the rates of the score."
        yield Chart(svg, caption, folded=recipe != main)
    yield _froc_table([(name, froc) for _, name, froc in found])


def _curve(name: str, froc: Froc) -> Curve:
    curve = froc["curve"]
    return Curve(name, curve["false_positives_per_slide"], curve["sensitivity"], curve["low"], curve["high"])


def _froc_table(scores: list[tuple[str, Froc]]) -> Table:
    rates = scores[0][1]["false_positives_per_slide"]
    headings = ("CAMELYON16 score", *(f"at {rate:g} FP" for rate in rates), "Detections a slide")
    columns = (Column("Tile score"), *(Column(text, numeric=True) for text in headings))
    return Table("FROC: share of lesions hit", columns, tuple(_froc_row(*score) for score in scores))


def _froc_row(name: str, froc: Froc) -> tuple[Cell, ...]:
    other = froc["negative_slides"]
    score = interval_cell(froc["score"])
    beside = other["score"]["estimate"]
    note = score.note if beside is None else f"{score.note}; negative slides: {beside:.3f}".removeprefix("; ")
    hits = (
        known_cell(froc["sensitivity"][index] if froc["sensitivity"] else None, froc["reason"])
        for index in range(len(froc["false_positives_per_slide"]))
    )
    candidates = f"{froc['candidates']:,.1f}" if froc["sensitivity"] else UNDEFINED
    return (Cell(name), score._replace(note=note), *hits, Cell(candidates, number=froc["candidates"]))
