"""Slide quality: shares of measured tiles, medians of the used slides, and lines through a CSV and back."""

import csv
import io

import pytest
from report_runs import HEADER

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.columns import cells_of, parse_lines
from wsi_kd.report.quality_tables import all_slides_table, quality_summary
from wsi_kd.report.slide_quality import SlideQuality, slide_quality

OK = StatusRow("a", SlideStatus.OK, "", "embed", 90, 12.5, 0.25, "vendor", 1.0, 120, 0, 0, 20, 10)


def with_counts(**counts):
    return {**HEADER, "quality_counts": {"tiles": 100, "blurred": 0, "pen": 0, "background": 0, **counts}}


def row_of(table, name):
    headings = [column.heading for column in table.columns]
    return next(dict(zip(headings, row, strict=True)) for row in table.rows if row[0].text == name)


def test_shares_are_of_measured_tiles_those_left_out_among_them():
    shown = row_of(all_slides_table([slide_quality(OK, HEADER)]), "a")
    assert shown["Blurred tiles"].text == "19.0%"  # 9 kept and 10 left out, of 90 + 10 measured
    assert shown["Tiles mostly glass"].number == pytest.approx(0.18)
    assert shown["Tiles left out"].text == "16.7% background, 8.3% blurred"
    assert shown["Pen (mm²)"].text == "0.25"
    assert shown["Scanner"].text == "aperio ScanScope"
    assert shown["um/px"].text == "0.25"


def test_what_nobody_measured_is_unknown_not_zero():
    failed = OK._replace(slide_id="b", status=SlideStatus.EMPTY, slide_mpp=0.0, mpp_source="", tiles=0)
    shown = row_of(all_slides_table([slide_quality(failed, None)]), "b")
    unknown = ("Blurred tiles", "Tiles with pen", "Tiles mostly glass", "Pen (mm²)", "Folds (mm²)", "um/px")
    assert [shown[name].text for name in unknown] == ["n/a"] * 6
    assert [shown[name].number for name in unknown] == [None] * 6


def test_the_summary_is_of_used_slides_alone():
    used = [
        slide_quality(OK._replace(slide_id=str(at), tissue_mm2=tissue), with_counts(pen=pen))
        for at, (tissue, pen) in enumerate(((1.0, 0), (2.0, 11), (9.0, 55)))
    ]
    failed = slide_quality(OK._replace(status=SlideStatus.EMPTY, tissue_mm2=100.0), None)
    table, note = quality_summary([*used, failed])
    tissue, pen = row_of(table, "Tissue (mm²)"), row_of(table, "Tiles with pen")
    assert [tissue[name].number for name in ("Median", "Least", "Most", "Slides")] == [2.0, 1.0, 9.0, 3.0]
    assert [pen[name].text for name in ("Median", "Least", "Most")] == ["10.0%", "0.0%", "50.0%"]
    assert note.text.startswith("Tiles of 3 of 3 used slides were measured. Blurred: sharpness below 0.2")
    assert quality_summary([failed]) == []


def test_lines_come_back_from_a_csv_file_unchanged():
    lines = (
        slide_quality(OK._replace(tissue_mm2=1 / 3, reason='a "quoted", comma'), HEADER),
        slide_quality(OK._replace(slide_id="é", status=SlideStatus.UNREADABLE, slide_mpp=0.0), None),
    )
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(SlideQuality._fields)
    writer.writerows(map(cells_of, lines))
    buffer.seek(0)
    assert parse_lines(SlideQuality, csv.DictReader(buffer)) == lines


def test_a_cell_of_another_kind_is_refused():
    row = dict(zip(SlideQuality._fields, map(str, cells_of(slide_quality(OK, HEADER))), strict=True))
    with pytest.raises(ValueError, match="many"):
        parse_lines(SlideQuality, [{**row, "tiles": "many"}])
    with pytest.raises(KeyError, match="tiles"):
        parse_lines(SlideQuality, [{name: cell for name, cell in row.items() if name != "tiles"}])
