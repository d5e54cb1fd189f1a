"""Rows for inference: slide files, folders and CSV files as a user names them."""

import pytest

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.core.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.svs", "b.svs", "c.svs", "sub/b.tif", "a.geojson"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_rows_for_inference_from_files_folders_and_tables(folder):
    (folder / "list.csv").write_text("path,slide_mpp,slide_id\nc.svs,0.3,\na.svs,,first\n")
    rows = rows_of_slides([folder / "sub", folder / "list.csv"], 0.5)
    assert [(row.slide_id, row.path, row.slide_mpp) for row in rows] == [
        ("b", folder / "sub/b.tif", 0.5),
        ("c", folder / "c.svs", 0.3),
        ("first", folder / "a.svs", 0.5),
    ]
    assert {row.label for row in rows} == {""}
    assert [row.case_id for row in rows] == ["b", "c", "first"]


def test_inference_lists_missing_files_and_clashing_ids(folder):
    with pytest.raises(BadInput, match=r"no such slide file .*: .*x\.svs, .*y\.svs"):
        rows_of_slides([folder / "x.svs", folder / "y.svs"], None)
    with pytest.raises(BadInput, match=r"same id: .*b\.svs, .*sub/b\.tif; name them in a CSV"):
        rows_of_slides([folder / "b.svs", folder / "sub"], None)
    (folder / "none").mkdir()
    with pytest.raises(BadInput, match="no slide in this folder"):
        rows_of_slides([folder / "none"], None)


@pytest.mark.parametrize("slide_mpp", [float("nan"), float("inf"), 0.0, -0.5])
def test_a_resolution_for_inference_must_be_a_positive_number(folder, slide_mpp):
    with pytest.raises(BadInput, match=r"--slide-mpp .*: expected a positive number of um/px"):
        rows_of_slides([folder / "a.svs"], slide_mpp)


def test_inference_keeps_annotations_and_lists_missing_ones(folder):
    table = folder / "drawn.csv"
    table.write_text("path,slide_id,annotation\na.svs,,a.svs\n")
    (row,) = rows_of_slides([table], None)
    assert (row.slide_id, row.case_id, row.annotation) == ("a", "a", folder / "a.svs")
    table.write_text("path,slide_id,annotation\na.svs,,gone.xml\nb.svs,,gone2.xml\n")
    with pytest.raises(BadInput, match=r"no such annotation file .*: .*gone\.xml, .*gone2\.xml"):
        rows_of_slides([table], None)


def test_an_unusable_id_for_inference_is_shown_itself(folder):
    (folder / "ids.csv").write_text("path,slide_id\na.svs,../a\n")
    with pytest.raises(BadInput, match=r"no usable slide id: '\.\./a' of '.*a\.svs' holds a path separator"):
        rows_of_slides([folder / "ids.csv"], None)
