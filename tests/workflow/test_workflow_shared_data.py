"""Real slides through the whole workflow: broken ones beside good ones."""

import csv
from pathlib import Path

import pytest
from snakemake_runs import edited, run_snakemake
from synthetic import draw_cohort

pytestmark = [pytest.mark.workflow, pytest.mark.shared_data]

REAL = {
    "wsi/CMU-1-Small-Region.svs": "ok",
    "derived/cmu1_small_4level_aperio.svs": "ok",
    "derived/os2_ki67_4level_generic_mpp.tif": "ok",
    "wsi/test3-DAPI-2-_387_.ndpi": "empty",
    "wsi/ezwsi_multiframe_camelyon_challenge_image.dcm": "missing_mpp",
    "wsi/OS-1-detail.ome.tif": "ok",
    "faulty/empty.svs": "unreadable",
    "faulty/histolab_broken.svs": "unreadable",
    "faulty/li_notanimage.txt": "unreadable",
    "faulty/openslide_boxes.tiff": "missing_mpp",
    "faulty/openslide_small.svs": "empty",
    "faulty/openslide_unopenable.tiff": "unreadable",
    "faulty/openslide_unreadable.svs": "unreadable",
}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_real_and_broken_slides_end_with_their_status_and_the_rest_completes(shared_data, tmp_path):
    (tmp_path / "cohort").mkdir()
    manifest = draw_cohort(tmp_path / "cohort").manifest
    lines = [f"{_slide_id(name)},{shared_data / name},normal,{_slide_id(name)},B,\n" for name in REAL]
    with manifest.open("a") as handle:
        handle.writelines(lines)
    failing = sum(status != "ok" for status in REAL.values())
    done = run_snakemake(tmp_path, settings=edited("run", max_failed_slides=failing))
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    logs = "".join(path.read_text() for path in (tmp_path / "out/logs").rglob("*.log"))
    assert "Traceback" not in logs
    statuses = {row["slide_id"]: row for row in read_rows(tmp_path / "out/status.csv")}
    assert {name: statuses[_slide_id(name)]["status"] for name in REAL} == REAL
    assert all(row["reason"] for row in statuses.values() if row["status"] != "ok")
    assert sum(row["status"] == "ok" for row in statuses.values()) == 12 + 4


def _slide_id(name: str) -> str:
    return Path(name).name.replace(".", "_")
