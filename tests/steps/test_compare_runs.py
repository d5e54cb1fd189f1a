"""`wsi-kd report RUN ...`: several finished runs compared from their files, and one drawn again."""

import csv
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from compared_runs import HOSTILE_NAMES, RunFolder, compared_page

from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, read_json, read_table
from wsi_kd.evaluation.against_baseline import COMPARED_SLIDE_METRICS
from wsi_kd.evaluation.schema import SLIDE_METRICS
from wsi_kd.evaluation.schema_runs import (
    Family,
    RunComparison,
    RunDifference,
    RunFacts,
    RunTest,
    SharedSlides,
)
from wsi_kd.steps.compare_runs import COLUMNS, run_compare
from wsi_kd.steps.finished_run import (
    entries_of,
    read_finished_run,
    recorded_manifest,
    recorded_settings,
    run_names,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """The page of three runs with hostile names; read only."""
    return compared_page(tmp_path_factory.mktemp("hostile"))


def texts(page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", page.split("</style>", 1)[1].split("<script>", 1)[0]))


def test_the_data_files_hold_what_the_page_shows(hostile):
    comparison = read_json(hostile.with_name("comparison.json"), remake="report")
    table = read_table(hostile.with_name("leaderboard.csv"), remake="report")
    assert tuple(table[0]) == COLUMNS
    assert [row["run"] for row in table] == [row["run"] for row in comparison["leaderboard"]]
    assert len(table) == 9  # three runs, each the teachers of abmil and WENO and WENO's student
    areas = [float(row["validation_roc_auc"]) for row in table]
    assert areas == sorted(areas, reverse=True)
    assert [row["test_slides"] for row in table if row["run"] == HOSTILE_NAMES[2]] == ["32"] * 3
    shown = texts(hostile.read_text(encoding="utf-8"))
    for row, line in zip(comparison["leaderboard"], table, strict=True):
        assert float(line["test_f1"]) == row["test"]["f1"]["estimate"]
        assert f"{row['validation']['estimate']:.3f}" in shown
    for test in comparison["tests"]:
        assert f"{test['metrics']['roc_auc']['estimate']:+.3f}" in shown
    assert f"corrected for all {comparison['family']['tests']} tests" in shown
    assert comparison["family"]["tests"] == 9 * 3


def test_every_member_and_column_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
    section = text.split("## Several runs", 1)[1].split("\n## ", 1)[0]
    told = set(re.findall(r"`([\w.]+)`", section))
    ends = ("_low", "_high")
    columns = {name for name in COLUMNS if not name.startswith("test_roc") and not name.endswith(ends)}
    columns -= {f"test_{metric}" for metric in SLIDE_METRICS}
    kinds = (RunComparison, RunFacts, RunTest, SharedSlides, RunDifference, Family)
    members = {member for kind in kinds for member in kind.__annotations__}
    assert sorted((columns | members | {"differing_settings"}) - told) == []
    assert all(metric in section for metric in (*SLIDE_METRICS, *COMPARED_SLIDE_METRICS))


def test_hostile_names_are_text(hostile):
    page = hostile.read_text(encoding="utf-8")
    assert page.count("<script>") == 1  # the page's own
    assert "<script>document" not in page
    assert "&lt;script&gt;document.title=" in page
    assert "{{ 7 * 7 }}" in unescape(page)
    assert "\u202e" not in page
    assert "r" * 200 in page


def test_the_page_tells_of_other_slides_splits_and_settings(hostile):
    shown = " ".join(texts(hostile.read_text(encoding="utf-8")).split())
    assert "did not test the same slides: 32 both, 8" in shown
    assert "The runs were split differently" in shown
    assert "The same on the 32 slides that every run tested" in shown
    assert "train weno.learning_rate 0.002 0.001 " in shown
    assert "/secret/place" not in hostile.read_text(encoding="utf-8")
    assert "tile.tile_px" not in shown  # alike in all


def test_the_same_runs_give_the_same_files(hostile, tmp_path):
    folders = [hostile.parent.parent / name for name in HOSTILE_NAMES]
    again = run_compare(folders, out_dir=tmp_path)
    for name in ("index.html", "comparison.json", "leaderboard.csv"):
        assert again.with_name(name).read_bytes() == hostile.with_name(name).read_bytes()


def test_the_command_compares_and_says_where(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, quality in (("a", 2.0), ("b", 0.2)):
        RunFolder(tmp_path / name, quality=quality, slides=range(16)).write()
    assert run(["report", "a", "b", "--out", "both"]) == 0
    assert capsys.readouterr().out == "report: both/index.html\n"
    with Path("both/leaderboard.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["rank"], row["run"]) for row in rows[:3]] == [("1", "a"), ("2", "a"), ("3", "a")]
    assert run(["report", "b", "a", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("results/comparison/index.html").is_file()


def test_slides_without_a_label_are_left_out_and_counted(tmp_path):
    runs = [RunFolder(tmp_path / name, quality=quality) for name, quality in (("a", 2.0), ("b", 1.0))]
    for one in runs:
        one.label_of = lambda slide: "" if slide in {4, 5} else ("normal", "tumor")[slide % 2]
        one.write()
    run_compare([one.root for one in runs], out_dir=tmp_path / "out")
    comparison = read_json(tmp_path / "out/comparison.json", remake="report")
    assert [facts["unlabeled"] for facts in comparison["runs"]] == [2, 2]
    assert {test["slides"] for test in comparison["tests"]} == {38}
    assert comparison["notes"] == ["Test slides without a label are left out: 2 of a, 2 of b."]


def test_no_labels_at_all_still_give_a_page(tmp_path):
    for name in ("a", "b"):
        one = RunFolder(tmp_path / name, slides=range(8))
        one.label_of = lambda _: ""
        one.write()
    page = run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")
    shown = texts(page.read_text(encoding="utf-8"))
    assert "no slide with a label" in shown
    comparison = read_json(tmp_path / "out/comparison.json", remake="report")
    assert comparison["family"]["tests"] == 0
    assert comparison["leaderboard"][0]["test"]["roc_auc"]["estimate"] is None


def test_recipes_of_one_run_alone_are_tested_as_its_best(tmp_path):
    for name, recipes in (("a", {"abmil": False}), ("b", {"mhim": False})):
        one = RunFolder(tmp_path / name)
        one.recipes = recipes
        one.write()
    run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")
    comparison = read_json(tmp_path / "out/comparison.json", remake="report")
    (test,) = comparison["tests"]
    assert {test["recipe"], test["against_recipe"]} == {"abmil", "mhim"}
    assert test["why"] == "best by validation of each run"
    assert comparison["notes"][0].startswith("Of one run alone: abmil, teacher (a); mhim, teacher (b).")


def test_three_classes(tmp_path):
    for name, quality in (("a", 2.0), ("b", 0.1)):
        RunFolder(tmp_path / name, classes=("a", "b", "c"), quality=quality, slides=range(24)).write()
    run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")
    tests = read_json(tmp_path / "out/comparison.json", remake="report")["tests"]
    assert {test["metrics"]["roc_auc"]["test"] for test in tests} == {"bootstrap"}
    assert tests[0]["metrics"]["roc_auc"]["p_value"] is not None


def test_runs_of_other_classes_are_refused(tmp_path):
    RunFolder(tmp_path / "a", slides=range(8)).write()
    RunFolder(tmp_path / "b", slides=range(8), classes=("tumor", "normal")).write()
    with pytest.raises(
        BadInput, match=r"^b: its classes are tumor, normal, those of a normal, tumor; only runs"
    ):
        run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (
            shutil.rmtree,
            r"b: no such folder; expected a finished run's run.results_dir",
        ),
        (lambda folder: shutil.rmtree(folder / "evaluation"), r"no evaluation/metrics.json there; expected"),
        (lambda folder: shutil.rmtree(folder / "predictions" / "weno"), r"make it with: wsi-kd predict"),
        (
            lambda folder: (folder / "splits.csv").write_text("slide_id\n"),
            r"run again: wsi-kd split|wsi-kd split",
        ),
    ],
)
def test_folders_that_hold_no_whole_run(tmp_path, break_it, told):
    for name in ("a", "b"):
        RunFolder(tmp_path / name, slides=range(8)).write()
    break_it(tmp_path / "b")
    with pytest.raises(BadInput, match=told):
        run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")


def test_predictions_of_another_split_are_refused(tmp_path):
    RunFolder(tmp_path / "a", slides=range(16)).write()
    other = RunFolder(tmp_path / "b", slides=range(16))
    other.write()
    other.folds = other.folds[::-1]
    other._write_splits()
    with pytest.raises(BadInput, match=r"its test slides are not those of splits\.csv"):
        run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")


def test_what_ranks_is_of_validation_slides_and_what_is_tested_of_test_slides(tmp_path):
    made = RunFolder(tmp_path / "a", slides=range(16))
    made.write()
    entries = entries_of(read_finished_run(tmp_path / "a", "a"))
    assert len(entries) == 3
    for entry in entries:
        for parts, name in ((entry.validation, "val"), (entry.test, "test")):
            assert [set(part.slide_ids) for part in parts] == [
                set(getattr(made.folds[part.fold], name)) for part in parts
            ]


def test_removed_models_cost_the_settings_only(tmp_path):
    for name, quality in (("a", 2.0), ("b", 1.0)):
        RunFolder(tmp_path / name, quality=quality, slides=range(16)).write()
    shutil.rmtree(tmp_path / "b" / "models")
    run_compare([tmp_path / "a", tmp_path / "b"], out_dir=tmp_path / "out")
    differing = read_json(tmp_path / "out/comparison.json", remake="report")["differing_settings"]
    assert differing["train weno.learning_rate"] == {"a": 0.002, "b": None}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "a"], "a: given twice"),
        (["a", "./a"], "a: given twice"),
        (["a", "--out", "x"], "--out: only with several RUN"),
        (["a", "b", "--manifest", "slides.csv"], "--manifest: only with one RUN"),
        (["a", "--config", "x.yaml"], "--config: not with RUN"),
        (["a", "--results-dir", "x"], "--results-dir: not with RUN"),
        (["a", "--slides-dir", "x"], "--slides-dir: only with --manifest"),
        (["--out", "x"], "--out: only with several RUN"),
        (["absent"], "absent: no such folder"),
        ([], "give either --config FILE"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    RunFolder("a", slides=range(8)).write()
    assert run(["report", *arguments]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_names_are_as_short_as_tells_runs_apart(tmp_path):
    folders = [tmp_path / path for path in ("x/run", "y/run", "y/other", "z/y/run")]
    assert run_names(folders) == ["x/run", f"{tmp_path.name}/y/run", "other", "z/y/run"]


def test_one_run_remembers_its_slides_title_and_page_settings(tmp_path):
    folder = RunFolder(tmp_path / "a", slides=range(8)).write()
    assert recorded_settings(folder).report.gallery_slides == 6
    sheet = recorded_manifest(folder)
    assert sheet.classes == ("normal", "tumor")
    assert [(row.slide_id, row.label, row.case_id) for row in sheet.rows[:2]] == [
        ("s0", "normal", "case_0"),
        ("s1", "tumor", "case_0"),
    ]
    page_settings = {**recorded_settings(folder).report.model_dump(mode="json"), "gallery_slides": 2}
    (folder / "report").mkdir()
    record = {"settings": {"title": "Lymph nodes", "report": page_settings}}
    publish_json(folder / "report" / "slides.csv.meta.json", record)
    found = recorded_settings(folder)
    assert found.run.title == "Lymph nodes"
    assert found.report.gallery_slides == 2
