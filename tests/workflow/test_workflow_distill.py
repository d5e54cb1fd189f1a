"""Recipe distill under Snakemake: its jobs wait for the models they learn from, and follow them."""

import json

import pytest
from snakemake_runs import SETTINGS, edited, run_snakemake

pytestmark = pytest.mark.workflow

MODELS = 3
TRAIN = {
    **SETTINGS["train"],
    "recipes": ["distill", "weno"],
    "distill": {"hidden_dim": 4, "attention_dim": 2},
}
DISTILLED = {**SETTINGS, "train": TRAIN}


def header(folder, recipe):
    return json.loads((folder / f"out/models/{recipe}/seed0/fold1/model.json").read_text())


def test_a_finished_run_is_distilled_and_nothing_else_is_trained(finished, copy_of):
    folder = copy_of(finished[0])
    before = header(folder, "weno")["weights_sha256"]
    done = run_snakemake(folder, settings=DISTILLED)
    assert done.code == 0, done.err
    assert done.jobs() == {"train": MODELS, "predict": MODELS, "evaluate": 1, "report": 1, "check_status": 1}
    assert header(folder, "weno")["weights_sha256"] == before
    small = header(folder, "distill")
    assert small["learned_from"]["weights_sha256"] == before
    assert (small["model"]["hidden_dim"], small["model"]["with_student"]) == (4, True)
    metrics = json.loads((folder / "out/evaluation/metrics.json").read_text())
    assert set(metrics["recipes"]["distill"]["scores"]) == set(metrics["recipes"]["weno"]["scores"])
    assert "Distilled student" in (folder / "out/report/index.html").read_text()

    large = folder / "out/models/weno/seed0/fold1/model.json"
    large.write_text(large.read_text() + "\n")
    again = run_snakemake(folder, "-n", settings=DISTILLED)
    assert again.jobs()["train"] == 1  # the one that learns from it


def test_a_recipe_without_its_teacher_is_one_line(cohort):
    done = run_snakemake(cohort, settings=edited("train", recipes=["abmil", "distill"]))
    told = [line for line in done.err.splitlines() if line.startswith("wsi-kd: error")]
    assert (done.code, len(told)) == (2, 1)
    assert told[0].startswith("wsi-kd: error: recipe distill learns from the models of recipe weno, which ")
    assert "Traceback" not in done.err
