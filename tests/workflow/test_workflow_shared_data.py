"""Real slides through the whole workflow: broken ones beside good ones, and the CRC nuclei cohort."""

import csv
import json
import runpy
from pathlib import Path

import pytest
from snakemake_runs import ROOT, edited, run_snakemake
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


def test_the_crc_nuclei_cohort_with_imagenet_features(shared_data, tmp_path):
    """60 patients, every nucleus a tile with truth; MobileNetV2 on small inputs, a few epochs, five folds."""
    write_cohort = runpy.run_path(str(ROOT / "benchmarks/crc_nuclei.py"))["write_cohort"]
    write_cohort(shared_data, tmp_path / "cohort")
    settings = {
        "run": {"manifest": "cohort/slides.csv", "classes": ["benign", "cancer"], "results_dir": "out"},
        "mask": {"edited_dir": "cohort/masks"},
        "tile": {"tile_px": 27, "tile_mpp": 0.55},
        "embed": {
            "encoder": "torchvision:mobilenet_v2",
            "weights": str(shared_data / "weights/mobilenet_v2_imagenet_q8dequant_fp16.pt"),
            "input_px": 64,
            "pixel_mean": [0.5, 0.5, 0.5],
            "pixel_std": [0.5, 0.5, 0.5],
        },
        "train": {"epochs": 6, "hidden_dim": 64, "attention_dim": 32},
        "evaluate": {"bootstrap_samples": 100},
        "report": {"gallery_slides": 2, "heatmap_px": 200},
    }
    done = run_snakemake(tmp_path, settings=settings)
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "out/evaluation/metrics.json").read_text())
    cohort = metrics["cohort"]
    assert (cohort["slides"], cohort["flow"]) == (60, {"ok": 60})
    assert (cohort["tiles"], cohort["labeled_tiles"], cohort["positive_tiles"]) == (9896, 9896, 4079)
    for recipe, score in (("abmil", "teacher"), ("weno", "teacher"), ("weno", "student")):
        measured = metrics["recipes"][recipe]["scores"][score]["pooled"]["roc_auc"]
        assert measured["estimate"] > 0.75, (recipe, score)
    instances = metrics["recipes"]["weno"]["instances"]
    assert instances["student"]["pooled"]["roc_auc"]["estimate"] > 0.65


def _slide_id(name: str) -> str:
    return Path(name).name.replace(".", "_")
