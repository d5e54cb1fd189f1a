"""The step stain in the workflow's plan: part of a run only where a cohort's fit is asked for."""

import pytest

from wsi_kd.cli.app import run
from wsi_kd.cli.plan import read_plan
from wsi_kd.core.errors import BadInput


@pytest.fixture
def cohort(tmp_path):
    rows = [f"s{index},s{index}.tif,{'normal' if index % 2 else 'tumor'}" for index in range(10)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label", *rows]) + "\n")
    for index in range(10):
        (tmp_path / f"s{index}.tif").touch()
    return {"run": {"manifest": str(tmp_path / "slides.csv"), "results_dir": "out"}}


@pytest.mark.parametrize(
    ("stain", "fit"),
    [
        ({}, []),
        ({"fit": "cohort"}, []),
        ({"method": "macenko"}, []),
        ({"method": "vahadane", "fit": "cohort"}, ["out/stain/stain.json"]),
    ],
)
def test_the_cohorts_fit_is_part_of_the_run_where_it_is_used(cohort, stain, fit):
    plan = read_plan({**cohort, "stain": stain})
    assert plan.stain_fit() == fit
    assert plan.stain_target() == []


def test_a_target_is_an_input_and_must_be_there(cohort, tmp_path):
    target = tmp_path / "target.png"
    named = {"method": "reinhard", "target": str(target)}
    with pytest.raises(BadInput, match=r"target\.png: no such slide or image; correct stain\.target"):
        read_plan({**cohort, "stain": named})
    assert read_plan({**cohort, "stain": {**named, "method": "none"}}).stain_target() == []
    target.touch()
    assert read_plan({**cohort, "stain": named}).stain_target() == [str(target)]
    with pytest.raises(BadInput, match="braces"):
        read_plan({**cohort, "stain": {**named, "target": str(tmp_path / "{x}.png")}})


def test_an_edit_of_stains_changes_stain_embed_and_train_alone(cohort):
    before, after = (read_plan({**cohort, "stain": {"tiles": tiles}}) for tiles in (8, 9))
    steps = ("mask", "tile", "stain", "embed", "split", "predict", "evaluate", "report")
    changed = [step for step in steps if before.step_settings(step) != after.step_settings(step)]
    assert changed == ["stain", "embed"]
    assert before.train_settings("weno", 0) != after.train_settings("weno", 0)


def test_the_command_refuses_a_run_without_a_cohorts_fit(cohort, tmp_path, capsys):
    settings = tmp_path / "my.yaml"
    settings.write_text(f"run:\n  manifest: {cohort['run']['manifest']}\n  results_dir: {tmp_path / 'out'}\n")
    assert run(["stain", "--config", str(settings)]) == 2
    assert "stain.method none" in capsys.readouterr().err
