"""Section on precision: what `check-precision` found of the run, where somebody asked it."""

from collections.abc import Sequence

from wsi_kd.report.numbers import UNDEFINED, count_cell, counted
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table
from wsi_kd.report.precision_lines import PrecisionLine
from wsi_kd.report.record import RECIPE_NAMES

REMAKE = "wsi-kd check-precision"


def precision_sections(lines: Sequence[PrecisionLine]) -> tuple[Section, ...]:
    """Build the section; none where nobody checked. Of an outdated check no number is shown."""
    if not lines:
        return ()
    blocks: tuple[Block, ...]
    if lines[0].outdated:
        text = (
            f"Checked, but not of what the run holds now: {lines[0].outdated}. No number of that check is "
            f"shown; check anew with: {REMAKE}"
        )
        blocks = (Note(text, caution=True),)
    else:
        blocks = (Note(_lead(lines[0])), _verdict(lines), _table(lines))
    return (Section("precision", "Precision of the features", blocks),)


def _lead(line: PrecisionLine) -> str:
    return (
        f"{counted(line.tiles, 'tile')} of {counted(line.slides, 'slide')} were encoded by {line.encoder} in "
        f"{_encoded_in(line)} and once more in float32, and the models scored both ({REMAKE}). The run's "
        f"feature files were embedded with embed.precision: {line.embedded_in}. Allowed are a cosine of "
        f"{line.cosine_limit:g} or more of a tile's features and a change of {line.change_limit:g} or less "
        "of a slide's logit, which moves a probability by half of that at most. A call is made at the "
        "threshold stored with the model, here of these tiles alone."
    )


def _verdict(lines: Sequence[PrecisionLine]) -> Note:
    """Say in a line whether the limits are kept, and what to do where one is not."""
    fault = lines[0].fault
    if not fault:
        return Note("Both limits are kept.")
    if any(_is_beyond(line) for line in lines):
        remedy = "set embed.precision: float32, leave embed.compile off, and make features and models anew"
    else:
        remedy = "embed it anew with: wsi-kd embed"
    return Note(f"Not kept: {fault}. What to do: {remedy}.", caution=True)


def _is_beyond(line: PrecisionLine) -> bool:
    kept = line.least_cosine >= line.cosine_limit and line.largest_change <= line.change_limit
    return not kept  # so that a NaN is beyond


def _table(lines: Sequence[PrecisionLine]) -> Table:
    numbers = (
        "Slides",
        "Cosine, least",
        "Cosine, mean",
        "Largest change of a logit",
        "Mean change",
        "Calls changed",
    )
    columns = (
        *(Column(text) for text in ("Model", "Encoder", "Encoded in")),
        *(Column(text, numeric=True) for text in numbers),
    )
    return Table("Against float32", columns, tuple(map(_row, lines)))


def _row(line: PrecisionLine) -> tuple[Cell, ...]:
    recipe, _, place = line.model.partition("/")
    missed = "" if line.least_cosine >= line.cosine_limit else f"below {line.cosine_limit:g}"
    moved = "" if line.largest_change <= line.change_limit else f"above {line.change_limit:g}"
    return (
        Cell(f"{RECIPE_NAMES.get(recipe, recipe)} {line.score}", note=place.replace("/", ", ")),
        Cell(line.encoder),
        Cell(_encoded_in(line)),
        count_cell(line.slides),
        _cosine_cell(line.least_cosine, missed),
        _cosine_cell(line.mean_cosine, "" if line.mean_cosine is not None else "not in the record"),
        Cell(f"{line.largest_change:.2g}", note=moved, number=line.largest_change),
        Cell(f"{line.mean_change:.2g}", number=line.mean_change),
        _calls_cell(line),
    )


def _cosine_cell(value: float | None, note: str) -> Cell:
    """Show five decimals: what matters begins at the third."""
    return Cell(UNDEFINED if value is None else f"{value:.5f}", note=note, number=value)


def _calls_cell(line: PrecisionLine) -> Cell:
    if line.changed_calls is None:
        return Cell(UNDEFINED, note="no threshold: the model is not one of the run's")
    return Cell(f"{line.changed_calls:,} of {line.slides:,}", number=float(line.changed_calls))


def _encoded_in(line: PrecisionLine) -> str:
    return f"{line.dtype}{', compiled,' if line.compiled else ''} on {line.device}"
