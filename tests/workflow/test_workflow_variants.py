"""Runs that are unlike the usual one: three classes, no annotation, a machine with a GPU."""

import csv
import json
import re
import shutil

import pytest
from snakemake_runs import ROOT, SETTINGS, edited, run_snakemake

from wsi_kd.settings.all import Settings

pytestmark = pytest.mark.workflow

CLASSES = ["normal", "low", "high"]


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory, synthetic_cohort):
    """A finished run of both recipes on nine cases of three classes, without any annotation."""
    folder = tmp_path_factory.mktemp("three") / "run"
    shutil.copytree(synthetic_cohort.manifest.parent, folder / "cohort")
    names = sorted(path.stem for path in (folder / "cohort").glob("case*.tiff"))[:9]
    rows = [(name, f"{name}.tiff", CLASSES[index % 3]) for index, name in enumerate(names)]
    with (folder / "cohort/slides.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("slide_id", "path", "label"), *rows])
    settings = edited("run", classes=CLASSES, max_failed_slides=0)
    settings["train"] = {**SETTINGS["train"], "recipes": ["abmil", "weno"], "epochs": 2}
    return folder, run_snakemake(folder, settings=settings)


def test_three_classes_reach_the_page(three_classes):
    folder, done = three_classes
    assert done.code == 0, done.err
    metrics = json.loads((folder / "out/evaluation/metrics.json").read_text())
    assert metrics["classes"] == CLASSES
    scores = {recipe: set(found["scores"]) for recipe, found in metrics["recipes"].items()}
    assert scores == {"abmil": {"teacher"}, "weno": {"teacher", "student", "student_max", "student_topk"}}
    page = (folder / "out/report/index.html").read_text()
    assert "Of the 3 classes, the AUC is the mean of each class against the rest" in page
    assert "called not normal" in page


def test_three_classes_pool_to_the_macro_area_of_the_table(three_classes):
    folder = three_classes[0]
    with (folder / "out/evaluation/predictions.csv").open(newline="") as handle:
        every = list(csv.DictReader(handle))
    rows = [row for row in every if row["recipe"] == "abmil"]
    assert (len(every), len(rows)) == (18, 9)
    for row in every:
        if row["recipe"] == "weno":
            told = [float(row[f"student_probability_{name}"]) for name in CLASSES]
            assert sum(told) == pytest.approx(1.0)
    areas = []
    for name in CLASSES:
        own = [float(row[f"probability_{name}"]) for row in rows if row["label"] == name]
        rest = [float(row[f"probability_{name}"]) for row in rows if row["label"] != name]
        wins = sum((a > b) + 0.5 * (a == b) for a in own for b in rest)
        areas.append(wins / (len(own) * len(rest)))
    metrics = json.loads((folder / "out/evaluation/metrics.json").read_text())
    pooled = metrics["recipes"]["abmil"]["scores"]["teacher"]["pooled"]
    assert pooled["roc_auc"]["estimate"] == pytest.approx(sum(areas) / 3)
    for row in rows:
        assert float(row["teacher_probability"]) == pytest.approx(
            sum(float(row[f"probability_{name}"]) for name in CLASSES[1:])
        )


def test_without_annotations_no_tile_of_the_last_epoch_is_written(three_classes):
    folder = three_classes[0] / "out/predictions/abmil/seed0/fold0"
    assert len(list(folder.glob("tiles/*.csv"))) == 3
    assert (folder / "last/predictions.csv").is_file()
    assert not (folder / "last/tiles").exists()


def test_jobs_that_may_use_a_card_ask_for_it_and_the_profile_gives_out_one(three_classes):
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    asking = re.findall(r'^        gpu=cards_of\("(\w+)"\)(?: \* TRAIN\.processes)?,$', text, re.MULTILINE)
    assert set(asking) == {name for name, section in Settings() if hasattr(section, "device")}
    bodies = {rule: body for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.M | re.S)}
    assert all(f'gpu=cards_of("{rule}")' in bodies[rule] for rule in asking)
    assert re.search(r"Provided resources: gpu=.*1", three_classes[1].out + three_classes[1].err)
