"""The CRC nuclei cohort through the whole workflow: real tiles with truth, a pretrained network's vectors."""

import json
import runpy

import pytest
from snakemake_runs import ROOT, run_snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.shared_data]


def test_the_crc_nuclei_cohort_with_imagenet_features(shared_data, tmp_path):
    """60 patients, every nucleus a tile with truth; MobileNetV2 on small inputs, few epochs, five folds."""
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
    assert {model["fold"] for model in metrics["recipes"]["weno"]["models"]} == set(range(5))
    assert (cohort["tiles"], cohort["labeled_tiles"], cohort["positive_tiles"]) == (9896, 9896, 4079)
    for recipe, score in (("abmil", "teacher"), ("weno", "teacher"), ("weno", "student")):
        measured = metrics["recipes"][recipe]["scores"][score]["pooled"]["roc_auc"]
        assert measured["estimate"] > 0.75, (recipe, score)
    instances = metrics["recipes"]["weno"]["instances"]
    assert instances["student"]["pooled"]["roc_auc"]["estimate"] > 0.65
