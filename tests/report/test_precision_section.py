"""What check-precision found, on the page: numbers by hand, limits to the digit, and what to do."""

import math

import pytest

from wsi_kd.report.page import Note, Table
from wsi_kd.report.precision import precision_sections
from wsi_kd.report.precision_lines import PrecisionLine, precision_lines

TEACHER, STUDENT = "teacher", "student"
LINE = PrecisionLine(
    model="weno/seed0/fold1",
    score=STUDENT,
    encoder="resnet50",
    dtype="bfloat16",
    compiled=1,
    device="cpu",
    embedded_in="auto",
    slides=4,
    tiles=2048,
    least_cosine=0.999,
    mean_cosine=0.99951,
    largest_change=0.01,
    mean_change=0.00025,
    changed_calls=1,
    cosine_limit=0.999,
    change_limit=0.01,
    fault="",
    outdated="",
)


def logit(score, label, *, exact, found, model="weno/seed0/fold0"):
    change = {"exact": exact, "found": found, "change": abs(found - exact)}
    return {"model": model, "score": score, "class": label, **change}


def slide(*logits, tiles=8, cosine=0.9995, mean=0.9999, embedded_in="auto"):
    return {
        "tiles": tiles,
        "least_cosine": cosine,
        "mean_cosine": mean,
        "embedded_in": embedded_in,
        "logits": list(logits),
    }


def record(*slides, models=("weno/seed0/fold0",), in_run=True):
    return {
        "settings": {"embed": {"encoder": "resnet50"}},
        "dtype": "bfloat16",
        "compiled": False,
        "device": "cpu",
        "limits": {"least_cosine": 0.999, "largest_change": 0.01},
        "least_cosine": min(one["least_cosine"] for one in slides),
        "fault": "",
        "models": [{"model": model, "in_run": in_run} for model in models],
        "slides": list(slides),
    }


def metrics(classes=("normal", "tumor"), **thresholds):
    models = [{"seed": 0, "fold": fold, "thresholds": thresholds} for fold in (1, 0)]
    models[0] = {**models[0], "thresholds": {TEACHER: 0.0, STUDENT: 0.0}}  # of another fold: not to be taken
    return {"classes": list(classes), "recipes": {"weno": {"models": models}}}


def lines_of(checked, **thresholds):
    return list(precision_lines(checked, metrics(**thresholds), outdated=""))


def blocks_of(*lines):
    (section,) = precision_sections(lines)
    assert section.anchor == "precision"
    return section.blocks


def row_of(line):
    (table,) = (block for block in blocks_of(line) if isinstance(block, Table))
    headings = [column.heading for column in table.columns]
    return {heading: cell for heading, cell in zip(headings, table.rows[0], strict=True)}


def test_changes_are_over_slides_and_classes_and_cosines_over_tiles():
    one = slide(
        logit(TEACHER, "normal", exact=0.0, found=0.001),
        logit(TEACHER, "tumor", exact=0.0, found=-0.003),
        logit(STUDENT, "tumor", exact=1.0, found=1.25),
        mean=0.99,
    )
    other = slide(
        logit(TEACHER, "normal", exact=2.0, found=2.004),
        logit(TEACHER, "tumor", exact=0.0, found=0.0),
        logit(STUDENT, "tumor", exact=1.0, found=0.25),
        tiles=24,
        cosine=0.998,
        mean=0.998,
        embedded_in="float32",
    )
    teacher, student = lines_of(record(one, other), teacher=0.5, student=0.5)
    assert (teacher.score, student.score) == (TEACHER, STUDENT)
    assert (teacher.largest_change, teacher.mean_change) == pytest.approx((0.004, 0.002))
    assert (student.largest_change, student.mean_change) == pytest.approx((0.75, 0.5))
    assert (teacher.least_cosine, teacher.mean_cosine) == (0.998, pytest.approx(0.996))
    assert (teacher.slides, teacher.tiles, teacher.embedded_in) == (2, 32, "auto, float32")


def test_a_call_changes_where_the_models_own_threshold_lies_between():
    """Thresholds 0.5 of the teacher, logits apart by 0; 0.4 of the student, a logit of -0.4055."""
    crossing = slide(
        logit(TEACHER, "normal", exact=1.0, found=1.0),
        logit(TEACHER, "tumor", exact=1.002, found=0.998),
        logit(STUDENT, "tumor", exact=-0.405, found=-0.406),
    )
    staying = slide(
        logit(TEACHER, "normal", exact=1.0, found=1.0),
        logit(TEACHER, "tumor", exact=1.5, found=1.001),
        logit(STUDENT, "tumor", exact=-0.1, found=-0.405),
    )
    checked = record(crossing, staying, staying)
    assert [line.changed_calls for line in lines_of(checked, teacher=0.5, student=0.4)] == [1, 1]
    assert [line.changed_calls for line in lines_of(checked, teacher=0.4, student=0.5)] == [0, 0]
    assert [line.changed_calls for line in lines_of(checked, teacher=0.5, student=None)] == [1, None]


def test_of_more_classes_a_call_changes_between_two_positive_ones():
    classes = ("benign", "low", "high")
    moved = slide(
        logit(TEACHER, "benign", exact=0.0, found=0.0),
        logit(TEACHER, "low", exact=1.0, found=1.0),
        logit(TEACHER, "high", exact=0.99, found=1.01),
    )
    found = precision_lines(record(moved), metrics(classes, teacher=0.5), outdated="")
    assert [line.changed_calls for line in found] == [1]
    # Both have 0.844 and 0.846 together, (e + e^0.99) / (1 + e + e^0.99): benign at a threshold of 0.9.
    found = precision_lines(record(moved), metrics(classes, teacher=0.9), outdated="")
    assert [line.changed_calls for line in found] == [0]


def test_a_model_outside_the_run_has_no_threshold_and_an_old_record_no_mean():
    one = slide(logit(TEACHER, "tumor", exact=0.0, found=0.001))
    del one["mean_cosine"]
    (line,) = lines_of(record(one, in_run=False), teacher=0.5)
    assert (line.changed_calls, line.mean_cosine) == (None, None)
    row = row_of(line)
    assert (row["Calls changed"].text, row["Cosine, mean"].text) == ("n/a", "n/a")
    assert row["Calls changed"].note == "no threshold: the model is not one of the run's"
    for model in ("ins/seed0/fold0", "weno/seed1/fold0"):
        unmeasured = slide(logit(TEACHER, "tumor", exact=0.0, found=0.001, model=model))
        (line,) = lines_of(record(unmeasured, models=(model,)), teacher=0.5)
        assert line.changed_calls is None


def test_limits_themselves_are_kept():
    lead, verdict, _ = blocks_of(LINE)
    assert lead.text.startswith(
        "2,048 tiles of 4 slides were encoded by resnet50 in bfloat16, compiled, on cpu and once more in flo"
    )
    assert "a cosine of 0.999 or more of a tile's features and a change of 0.01 or less" in lead.text
    assert (verdict.text, verdict.caution) == ("Both limits are kept.", False)
    shown = {heading: (cell.text, cell.note) for heading, cell in row_of(LINE).items()}
    assert shown == {
        "Model": ("WENO student", "seed0, fold1"),
        "Encoder": ("resnet50", ""),
        "Encoded in": ("bfloat16, compiled, on cpu", ""),
        "Slides": ("4", ""),
        "Cosine, least": ("0.99900", ""),
        "Cosine, mean": ("0.99951", ""),
        "Largest change of a logit": ("0.01", ""),
        "Mean change": ("0.00025", ""),
        "Calls changed": ("1 of 4", ""),
    }


@pytest.mark.parametrize(
    ("beyond", "heading", "note"),
    [
        ({"largest_change": 0.010001}, "Largest change of a logit", "above 0.01"),
        ({"largest_change": math.nan}, "Largest change of a logit", "above 0.01"),
        ({"least_cosine": 0.99899}, "Cosine, least", "below 0.999"),
    ],
)
def test_beyond_a_limit_the_page_says_what_to_do(beyond, heading, note):
    line = LINE._replace(fault="a: too far", **beyond)
    assert row_of(line)[heading].note == note
    verdict = blocks_of(LINE._replace(fault="a: too far"), line)[1]
    assert verdict == Note(
        "Not kept: a: too far. What to do: set embed.precision: float32, leave embed.compile off, and make "
        "features and models anew.",
        caution=True,
    )


def test_a_feature_file_that_holds_something_else_is_embedded_anew():
    verdict = blocks_of(LINE._replace(fault="a: its feature file does not hold what the encoder gives now"))[
        1
    ]
    assert verdict.text.endswith("What to do: embed it anew with: wsi-kd embed.")
    assert verdict.caution


def test_of_an_outdated_check_no_number_is_shown():
    (note,) = blocks_of(LINE._replace(outdated="weno/seed0/fold1: checked with other weights"))
    assert note.caution
    assert note.text == (
        "Checked, but not of what the run holds now: weno/seed0/fold1: checked with other weights. No number "
        "of that check is shown; check anew with: wsi-kd check-precision"
    )


def test_where_nobody_checked_the_page_has_no_section():
    assert precision_sections(()) == ()
