"""The page of claim checks: its figures, its chart, its commands, and nothing that is not its own."""

import re
from xml.etree import ElementTree

import pytest
from drawn_claims import bad, drawn_claim, good, unchecked, undefined

from wsi_kd.claims.claim import Series
from wsi_kd.claims.measured import measure
from wsi_kd.report.claims import ClaimRecord, claims_page
from wsi_kd.report.figures import series_chart
from wsi_kd.report.render import render_page


def record(run) -> ClaimRecord:
    claim = drawn_claim(run)
    return ClaimRecord(claim, measure(claim, seeds=3)._replace(seconds=12.34))


def page_of(*runs, seeds: int | None = None):
    return claims_page([record(run) for run in runs], git="abc", code="f" * 64, seeds=seeds)


def blocks(section, kind: str):
    return [block for block in section.blocks if block.kind == kind]


def test_a_section_has_claim_setting_checks_rows_chart_and_command() -> None:
    page = page_of(good, bad)
    assert [section.heading for section in page.sections] == [
        "Overview",
        "good: pass (2 of 2)",
        "bad: FAIL (1 of 2)",
        "How this was made",
    ]
    section = page.sections[1]
    checks, rows = blocks(section, "table")
    assert [[cell.text for cell in row] for row in checks.rows] == [
        ["KD - CE", "0.310", "at least 0.150", "pass"],
        ["error", "1e-17", "at most 1e-12", "pass"],
    ]
    assert [cell.text for cell in rows.rows[0]] == ["KD, n=300", "0.810 ± 0.010", "0.800, 0.810, 0.820"]
    assert blocks(section, "listing")[0].text == "wsi-kd reproduce good --seeds 3"
    assert blocks(section, "chart")[0].caption == "accuracy by samples"
    assert any("KD .81, CE .50" in note.text for note in blocks(section, "note"))
    assert dict(page.facts) == {"Claims that pass": "1 of 2", "Checks": "4", "Seconds, one core": "25"}


def test_what_does_not_hold_is_set_apart() -> None:
    section = page_of(bad).sections[1]
    cautions = [note.text for note in blocks(section, "note") if note.caution]
    assert cautions == ["Does not hold here: KD - CE."]
    assert blocks(section, "chart") == []
    assert [row[2].note for row in blocks(section, "table")[0].rows] == ["", "few"]
    assert not any(note.caution for note in blocks(page_of(good).sections[1], "note"))


def test_nothing_checked_and_nothing_defined_are_no_pass() -> None:
    page = page_of(unchecked, undefined)
    assert dict(page.facts)["Claims that pass"] == "0 of 2"
    cautions = [note.text for note in blocks(page.sections[1], "note") if note.caution]
    assert cautions == ["Does not hold here: nothing was checked."]
    rows = blocks(page.sections[2], "table")[1].rows
    assert [(row[1].text, row[1].number) for row in rows] == [("nan ± nan", None), ("inf", None)]
    assert 'data-number="nan"' not in render_page(page)


@pytest.mark.parametrize(("seeds", "option"), [(None, ""), (2, " --seeds 2")])
def test_the_page_says_how_to_make_it_again(seeds: int | None, option: str) -> None:
    provenance = page_of(good, bad, seeds=seeds).sections[-1]
    assert blocks(provenance, "listing")[0].text == f"wsi-kd reproduce good bad{option}"
    versions = {row[0].text: row[1].text for row in blocks(provenance, "table")[0].rows}
    assert versions["code (sha256)"] == "f" * 12
    assert versions["git"] == "abc"
    assert "torch" in versions


def test_the_page_is_whole_and_says_what_it_is_not() -> None:
    text = render_page(page_of(good, bad))
    assert "no reproduction of the papers" in text
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", text) == []
    assert "http" not in re.sub(r"http-equiv|https?://www\.w3\.org/\S+", "", text)


def test_a_chart_shows_every_line_and_a_wide_range_by_its_logarithm() -> None:
    lines = [
        Series("KD", (300.0, 3000.0, 30000.0), (0.8, 0.9, 0.95)),
        Series("CE", (300.0,), (float("inf"),)),
    ]
    root = ElementTree.fromstring(series_chart("one", lines, x_label="samples", y_label="accuracy"))
    texts = {"".join(element.itertext()) for element in root.iter("text")}
    assert {"KD", "CE", "samples", "accuracy", "1,000", "10,000"} <= texts
    near = [Series("KD", (1.0, 2.0, 20.0), (0.1, 0.2, 0.3))]
    root = ElementTree.fromstring(series_chart("two", near, x_label="step", y_label="loss"))
    assert "10" in {"".join(element.itertext()) for element in root.iter("text")}
    described = next(root.iter("desc")).text
    assert described == "loss by step, a line each of: KD."
