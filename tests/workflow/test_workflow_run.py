"""The whole line under Snakemake: what it leaves, what it does again, and what it does not."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from snakemake_runs import ODD, SETTINGS, edited, run_snakemake

from wsi_kd.cli.app import run as run_command

pytestmark = pytest.mark.workflow

LINE = ("mask", "tile", "embed", "split", "train", "predict", "evaluate", "report", "check_status")
CHUNKS, MODELS = 2, 3
COUNTS = {"mask": CHUNKS, "tile": CHUNKS, "embed": CHUNKS, "train": MODELS, "predict": MODELS}


def jobs_from(step: str) -> dict[str, int]:
    """The jobs of a step and of all after it; the page of slides is drawn beside the line, after embed."""
    line = LINE[LINE.index(step) :]
    return {name: COUNTS.get(name, 1) for name in (*line, *(("qc",) if "embed" in line else ()))}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_run_with_allowed_failures_succeeds(finished):
    done = finished[1]
    assert done.code == 0, done.err
    assert done.jobs() == jobs_from("mask")
    assert "Traceback" not in done.err


def test_every_slide_has_one_status_with_a_reason(finished):
    rows = read_rows(finished[0] / "out/status.csv")
    assert len(rows) == 12 + len(ODD)
    failed = {row["slide_id"].removeprefix("odd_"): row for row in rows if row["status"] != "ok"}
    assert {kind: row["status"] for kind, row in failed.items()} == ODD
    assert all(row["reason"] for row in failed.values())


def test_failed_slides_are_in_no_part(finished):
    rows = {row["slide_id"]: row for row in read_rows(finished[0] / "out/splits.csv")}
    for kind in ODD:
        assert {rows[f"odd_{kind}"][f"fold_{fold}"] for fold in range(MODELS)} == {"excluded"}
    good = [row for slide_id, row in rows.items() if not slide_id.startswith("odd_")]
    assert all(sum(row[f"fold_{fold}"] == "test" for fold in range(MODELS)) == 1 for row in good)


def test_metrics_and_page_are_there(finished):
    out = finished[0] / "out"
    metrics = json.loads((out / "evaluation/metrics.json").read_text())
    assert metrics["cohort"]["flow"] == {"ok": 12, "empty": 1, "missing_mpp": 1, "unreadable": 1}
    assert 0 <= metrics["recipes"]["weno"]["scores"]["teacher"]["pooled"]["roc_auc"]["estimate"] <= 1
    page = (out / "report/index.html").read_text()
    for kind in ODD:
        assert f"odd_{kind}" in page
    assert 'src="http' not in page
    slides = (out / "qc/index.html").read_text()
    assert slides.count("<article") == 12 + len(ODD)
    assert len(list((out / "qc/thumbnails").glob("*.jpg"))) >= 12


def test_every_job_leaves_its_log_and_its_benchmark(finished):
    out = finished[0] / "out"
    for step, jobs in jobs_from("mask").items():
        assert len([*out.glob(f"logs/{step}/*.log"), *out.glob(f"logs/{step}.log")]) == jobs, step
        assert len([*out.glob(f"benchmarks/{step}/*.tsv"), *out.glob(f"benchmarks/{step}.tsv")]) == jobs, step


def test_the_summary_names_auc_and_report(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished[0])
    assert run_command(["summary", "--config", "my.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "bag AUC" in shown
    assert "instance AUC" in shown
    assert "out/report/index.html" in shown


def test_a_finished_run_is_drawn_again_without_its_settings(finished, copy_of, monkeypatch, capsys):
    folder = copy_of(finished[0])
    monkeypatch.chdir(folder)
    pages = [Path("out/report/index.html").read_text()]
    scores = Path("out/report/predictions.csv").read_bytes()
    for more in (["--manifest", "cohort/slides.csv"], []):
        assert run_command(["report", "out", *more]) == 0
        assert capsys.readouterr().out == "report: out/report/index.html\n"
        assert Path("out/report/predictions.csv").read_bytes() == scores
        pages.append(Path("out/report/index.html").read_text())
    pictures = [page.count("<img") for page in pages]
    assert pictures[0] == pictures[1] > 0
    assert pictures[2] == 0
    assert all("<title>small</title>" in page for page in pages)


def test_a_finished_run_and_its_copy_do_not_differ(finished, copy_of, monkeypatch):
    monkeypatch.chdir(copy_of(finished[0]))
    shutil.copytree("out", "copy")
    assert run_command(["report", "out", "copy", "--out", "both"]) == 0
    comparison = json.loads(Path("both/comparison.json").read_text())
    assert comparison["notes"] == []
    assert comparison["differing_settings"] == {}
    metrics = json.loads(Path("out/evaluation/metrics.json").read_text())
    rows = [row for row in comparison["leaderboard"] if row["run"] == "out"]
    for row in rows:
        own = metrics["recipes"][row["recipe"]]["scores"][row["score"]]["pooled"]
        assert row["test"]["roc_auc"] == own["roc_auc"]
    assert len(rows) * 2 == len(comparison["leaderboard"])
    for test in comparison["tests"]:
        assert {found["estimate"] for found in test["metrics"].values()} <= {0.0, None}


def test_a_second_run_has_nothing_to_do(finished, copy_of):
    done = run_snakemake(copy_of(finished[0]))
    assert done.code == 0
    assert "Nothing to be done" in done.out + done.err


@pytest.mark.parametrize(
    ("section", "values", "first"),
    [
        ("slides", {"max_mpp": 15.0}, "mask"),
        ("mask", {"mask_mpp": 9.0}, "mask"),
        ("tile", {"min_tissue_fraction": 0.4}, "tile"),
        ("embed", {"batch_size": 7}, "embed"),
        ("split", {"seed": 1}, "split"),
        ("train", {"epochs": 4}, "train"),
        ("predict", {"device": "cpu"}, "predict"),
        ("evaluate", {"seed": 5}, "evaluate"),
        ("report", {"gallery_slides": 3}, "report"),
        ("run", {"max_failed_slides": 5}, "check_status"),
    ],
)
def test_an_edit_of_one_section_reruns_that_step_and_those_after_it(
    section, values, first, finished, copy_of
):
    done = run_snakemake(copy_of(finished[0]), "--dry-run", settings=edited(section, **values))
    assert done.code == 0, done.err
    assert done.jobs() == jobs_from(first)


@pytest.mark.parametrize(
    ("section", "values", "steps"),
    [
        ("qc", {"thumbnail_px": 256}, ["qc"]),
        ("run", {"title": "another"}, ["qc", "report", "check_status"]),
    ],
)
def test_the_page_of_slides_is_drawn_beside_the_line(section, values, steps, finished, copy_of):
    done = run_snakemake(copy_of(finished[0]), "--dry-run", settings=edited(section, **values))
    assert done.jobs() == dict.fromkeys(steps, 1)


def test_after_a_check_of_precision_the_page_alone_is_drawn_anew(finished, copy_of):
    folder = copy_of(finished[0])
    (folder / "out" / "evaluation" / "precision.json").write_text("{}")
    done = run_snakemake(folder, "--dry-run")
    assert done.jobs() == {"report": 1, "check_status": 1}, done.err


def test_another_seed_trains_only_what_is_new(finished, copy_of):
    done = run_snakemake(copy_of(finished[0]), "--dry-run", settings=edited("train", seeds=[0, 1]))
    assert done.jobs() == jobs_from("train")
    assert "seed 1, fold 0" in done.out + done.err
    assert "seed 0, fold 0" not in done.out + done.err


def test_another_slide_file_reruns_its_own_chunk(finished, copy_of):
    folder = copy_of(finished[0])
    with (folder / "cohort/case00_0.tiff").open("ab") as handle:
        handle.write(b"another scan")
    jobs = run_snakemake(folder, "--dry-run").jobs()
    assert {step: jobs[step] for step in ("mask", "tile", "embed")} == {"mask": 1, "tile": 1, "embed": 1}


@pytest.mark.parametrize(
    ("old", "new", "first"), [("case07,", "case99,", "split"), (",B,", ",C,", "evaluate")]
)
def test_an_edit_of_a_manifest_column_reruns_the_steps_that_read_it(old, new, first, finished, copy_of):
    folder = copy_of(finished[0])
    manifest = folder / "cohort/slides.csv"
    manifest.write_text(manifest.read_text().replace(old, new))
    assert run_snakemake(folder, "--dry-run").jobs() == jobs_from(first)


def test_too_many_failures_fail_at_the_end_with_all_else_finished(finished, copy_of):
    folder = copy_of(finished[0])
    (folder / "out/checked").unlink()
    done = run_snakemake(folder, settings=edited("run", max_failed_slides=len(ODD) - 1))
    assert done.code != 0
    assert done.jobs() == {"check_status": 1}
    said = (folder / "out/logs/check_status.log").read_text()
    assert said.startswith("wsi-kd: error: 3 of 15 slides failed, run.max_failed_slides allows 2: ")
    assert "odd_missing_mpp (missing_mpp: " in said
    assert said.count("\n") == 1
    assert said.strip() in done.out + done.err
    assert (folder / "out/report/index.html").is_file()
    assert run_snakemake(folder, settings=SETTINGS).code == 0


def test_snakemakes_own_report_is_drawn(finished, copy_of):
    folder = copy_of(finished[0])
    done = run_snakemake(folder, "--report", "snakemake-report.html")
    assert done.code == 0, done.err
    page = (folder / "snakemake-report.html").read_text()
    assert "the page" in page
    assert "metrics with intervals" in page
