"""Slides in storage, and files looked for by the job that reads them and by no other."""

from pathlib import Path

import pytest

from wsi_kd.bags.manifest import check_row_files, read_manifest
from wsi_kd.bags.manifest_files import STORAGE_COPIES, is_address, local_copy
from wsi_kd.core.errors import BadInput

TABLE = """slide_id,path,label
s1,s3://scans/2024/P1.svs,normal
s2,b.svs,tumor
"""


@pytest.fixture
def sheet(tmp_path):
    (tmp_path / "b.svs").touch()
    (tmp_path / "slides.csv").write_text(TABLE)
    return tmp_path / "slides.csv"


def test_a_slide_in_storage_is_left_to_snakemake(sheet):
    stored, local = read_manifest(sheet, slides_dir=None, classes=()).rows
    assert stored.address == "s3://scans/2024/P1.svs"
    assert stored.path == Path(".snakemake/storage/s3/scans/2024/P1.svs")
    assert (local.address, local.path) == ("", sheet.parent / "b.svs")


def test_slides_dir_does_not_move_the_copies(sheet):
    stored = read_manifest(sheet, slides_dir=sheet.parent, classes=()).rows[0]
    assert stored.path == STORAGE_COPIES / "s3/scans/2024/P1.svs"


def test_a_job_refuses_a_slide_that_was_not_fetched(sheet, monkeypatch):
    rows = read_manifest(sheet, slides_dir=None, classes=()).rows
    monkeypatch.chdir(sheet.parent)
    with pytest.raises(
        BadInput, match=r"no such file for 1: s1 \(.*P1\.svs\); slides in storage are fetched"
    ):
        check_row_files(sheet, rows, fetched=True)
    rows[0].path.parent.mkdir(parents=True)
    rows[0].path.touch()
    check_row_files(sheet, rows, fetched=True)


def test_a_job_looks_for_its_own_slides_only(sheet):
    (sheet.parent / "b.svs").unlink()
    rows = read_manifest(sheet, slides_dir=None, classes=(), look_for_files=False).rows
    check_row_files(sheet, rows[:1])
    with pytest.raises(BadInput, match=r"column path: no such file for 1: s2 "):
        check_row_files(sheet, rows)
    check_row_files(sheet, rows, with_slides=False)


def test_two_ids_of_one_address_are_refused(sheet):
    sheet.write_text(TABLE + "s3,s3://scans/2024/P1.svs,tumor\n")
    with pytest.raises(BadInput, match=r"one file under several ids: s1 .*, s3 "):
        read_manifest(sheet, slides_dir=None, classes=())


@pytest.mark.parametrize(
    "address", ["s3://scans/../P1.svs", "s3://scans//P1.svs", "s3://scans/./P1.svs", "s3://../scans/P1.svs"]
)
def test_an_address_never_leaves_the_folder_of_copies(address, sheet):
    with pytest.raises(BadInput, match="no plain address; expected one such as s3://bucket"):
        local_copy(address)
    sheet.write_text(TABLE.replace("s3://scans/2024/P1.svs", address))
    with pytest.raises(BadInput, match="no plain address"):
        read_manifest(sheet, slides_dir=None, classes=())


@pytest.mark.parametrize(
    "cell", ["P1.svs", "/data/P1.svs", "s3:/scans/P1.svs", "S3://scans/P1.svs", "s3://", "s3://scans"]
)
def test_other_cells_are_paths(cell):
    assert not is_address(cell)
