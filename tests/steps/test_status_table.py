from pathlib import Path

import pytest

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.steps.status import failure, inputs_hash, read_status, status_row, unnamed, write_status

ROW = StatusRow("a", SlideStatus.OK, 'quote " and, comma', "mask", 12, 3.25, 0.4990123, "vendor", 1.5)


def test_round_trip_is_exact(tmp_path):
    rows = [ROW, ROW._replace(slide_id="b", status=SlideStatus.EMPTY, slide_mpp=0.0)]
    write_status(tmp_path / "s.csv", rows, stamp("mask", {}))
    assert read_status(tmp_path / "s.csv") == rows


def test_changed_tables_and_other_tables_are_refused(tmp_path):
    path = tmp_path / "s.csv"
    write_status(path, [ROW], stamp("mask", {}))
    path.write_text(path.read_text().replace("ok", "empty"))
    with pytest.raises(BadInput, match="changed or damaged"):
        read_status(path)
    publish_table(path, ["slide_id"], [["a"]], stamp=stamp("splits", {}))
    with pytest.raises(BadInput, match="holds 'splits', expected 'status'"):
        read_status(path)
    publish_table(path, StatusRow._fields, [ROW._replace(status="fine")], stamp=stamp("status", {}))
    with pytest.raises(BadInput, match="line 2: 'fine'"):
        read_status(path)


def test_a_failed_slide_names_the_step_that_failed():
    header = {"slide_id": "a", "tissue_mm2": 0.0, "slide_mpp": 0.5, "mpp_source": "vendor"}
    ok = {**header, "status": "ok", "reason": "", "failed_in": ""}
    assert status_row(ok, step="embed", tiles=3, seconds=0.12345).step == "embed"
    failed = {**header, **failure(SlideStatus.EMPTY, "no\n tissue", step="mask")}
    row = status_row(failed, step="embed", tiles=0, seconds=0.0)
    assert (row.step, row.reason, row.status) == ("mask", "no tissue", SlideStatus.EMPTY)


def test_inputs_hash_depends_on_step_and_inputs_only():
    assert inputs_hash("mask", {"a": 1, "b": 2}) == inputs_hash("mask", {"b": 2, "a": 1})
    assert (
        len({inputs_hash("mask", {"a": 1}), inputs_hash("tile", {"a": 1}), inputs_hash("mask", {"a": 2})})
        == 3
    )


@pytest.mark.parametrize(
    ("slide_id", "path", "said", "told"),
    [
        ("s1", "/scans/Doe_Jane/DoeJane.svs", "/scans/Doe_Jane/DoeJane.svs: truncated", "s1.svs: truncated"),
        ("s1", "/scans/Doe_Jane/DoeJane.svs", "in /scans/Doe_Jane/Data0001.dat", "in Data0001.dat"),
        ("s1", "/scans/Doe_Jane/DoeJane.svs", "index of DoeJane is short", "index of s1 is short"),
        ("s1", "/scans/Doe_Jane/s1.svs", "cannot open /scans/Doe_Jane/s1.svs", "cannot open s1.svs"),
        ("s1", "/scans/Doe_Jane/s1.svs", "level 0 is not stored", "level 0 is not stored"),
    ],
)
def test_reasons_lose_folders_and_telling_file_names(slide_id, path, said, told):
    row = SlideRow(slide_id, Path(path), "tumor", "p", "", None, None, "")
    assert unnamed(said, row) == told
