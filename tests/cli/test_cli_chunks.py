"""A job of one chunk reads its own rows: what it asks of the manifest does not grow with the cohort."""

import json

import pytest

from wsi_kd.cli.options import open_run
from wsi_kd.cli.rows import rows_hash
from wsi_kd.core.errors import BadInput

SLIDES, SIZE = 10, 4


@pytest.fixture
def run(tmp_path):
    rows = [f"s{index},s{index}.tif,{'zebra' if index < SLIDES - 1 else 'ant'}" for index in range(SLIDES)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label", *rows]) + "\n")
    for index in range(SLIDES):
        (tmp_path / f"s{index}.tif").touch()
    settings = {"run": {"manifest": str(tmp_path / "slides.csv"), "slides_per_job": SIZE}}
    return open_run(settings=json.dumps(settings), config=None)


def hash_of(run, chunk: int) -> str:
    return rows_hash(run.manifest().rows[SIZE * chunk : SIZE * (chunk + 1)], "mask")


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_job_reads_the_rows_that_a_call_by_hand_does(run, chunk):
    by_hand = run.chunks("mask", chunk=chunk, rows_hash=None)
    planned = run.chunks("mask", chunk=chunk, rows_hash=hash_of(run, chunk))
    assert planned == by_hand
    assert [row.slide_id for row in planned.rows[chunk]] == [
        f"s{index}" for index in range(SIZE * chunk, min(SIZE * (chunk + 1), SLIDES))
    ]


def test_the_classes_are_those_of_the_whole_manifest(run):
    """The only `ant` stands in the last chunk; it is the negative class of the first one too."""
    assert run.chunks("mask", chunk=0, rows_hash=hash_of(run, 0)).classes == ("ant", "zebra")


def test_a_job_asks_for_its_own_slides_only(run, tmp_path):
    (tmp_path / "s8.tif").unlink()
    sheet = run.manifest(look_for_slides=False)
    hashes = [rows_hash(sheet.rows[SIZE * chunk : SIZE * (chunk + 1)], "mask") for chunk in range(3)]
    assert set(run.chunks("mask", chunk=0, rows_hash=hashes[0]).rows) == {0}
    for chunk, expected in ((2, hashes[2]), (2, None), (None, None)):
        with pytest.raises(BadInput, match="no such file for 1: s8 "):
            run.chunks("mask", chunk=chunk, rows_hash=expected)


def test_other_rows_than_planned_stop_the_job(run):
    for chunk, expected in ((1, hash_of(run, 0)), (7, hash_of(run, 0))):
        with pytest.raises(BadInput, match="the manifest was edited while the workflow ran"):
            run.chunks("mask", chunk=chunk, rows_hash=expected)
    with pytest.raises(BadInput, match="--chunk 7: counted from 0, the manifest has 3 chunks of 4 rows"):
        run.chunks("mask", chunk=7, rows_hash=None)


def test_a_job_works_on_no_slide_that_was_not_fetched(run, tmp_path, monkeypatch):
    """The plan leaves a slide in storage to Snakemake; the job must find the copy."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "slides.csv"
    table.write_text(table.read_text().replace("s1,s1.tif", "s1,s3://scans/s1.tif"))
    with pytest.raises(BadInput, match=r"no such file for 1: s1 .*fetched by snakemake alone"):
        run.chunks("mask", chunk=0, rows_hash=None)
    copy = tmp_path / ".snakemake/storage/s3/scans/s1.tif"
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert [row.address for row in run.chunks("mask", chunk=0, rows_hash=None).rows[0]] == [
        "",
        "s3://scans/s1.tif",
        "",
        "",
    ]
