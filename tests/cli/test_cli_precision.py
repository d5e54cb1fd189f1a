"""The command check-precision: its table, its last line, its exit codes, and what verify says of its file."""

import json

import pytest
import yaml
from precision_runs import CLASSES, FOLDS, make_run

from wsi_kd.cli.app import run as run_command
from wsi_kd.cli.crash_guard import GUARDED
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.features.store import write_features
from wsi_kd.steps.verify_run import verify_run

GAIN = 300.0
"""Of a model whose logits move by several hundredths."""


@pytest.fixture(scope="module")
def made(synthetic_cohort, tmp_path_factory):
    """A run in bfloat16 whose recipe weno passes, whose abmil does not, and its settings file."""
    folder = tmp_path_factory.mktemp("command")
    run = make_run(folder / "run", synthetic_cohort, precision="bfloat16")
    run.save_model("weno")
    run.save_model("abmil", gain=GAIN)
    where = {
        "manifest": str(synthetic_cohort.manifest),
        "classes": list(CLASSES),
        "results_dir": str(run.root),
    }
    config = folder / "my.yaml"
    config.write_text(yaml.safe_dump({**run.sections, "run": where}))
    return run, config


def command(config, *arguments):
    return run_command(["check-precision", "--config", str(config), "--tiles", "6", *arguments])


def precision_faults(run):
    return [fault.what for fault in verify_run(run.root).faults if fault.file == "evaluation/precision.json"]


def test_a_recipe_that_passes_ends_with_0(made, capsys):
    run, config = made
    assert command(config, "--recipe", "weno") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    *table, last = shown.out.splitlines()
    assert last.startswith("check-precision: bfloat16 on cpu: passed: least cosine 0.99999")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table if line.startswith("│")]
    assert [row[0] for row in rows if row[0]] == [*FOLDS[0].test, *FOLDS[0].val]
    assert {row[3] for row in rows} <= {"teacher normal", "teacher tumor", "student tumor"}
    record = read_json(run.root / "evaluation" / "precision.json", remake="")
    first = record["slides"][0]["logits"]
    most = max(first[:2], key=lambda one: one["change"])
    assert rows[0][1:3] == ["6", f"{record['slides'][0]['least_cosine']:.6f}"]
    assert rows[0][4:] == [f"{most[key]:.4f}" for key in ("exact", "found", "change")]
    assert str(run.root.parent) not in shown.out


def test_every_recipe_is_checked_and_the_worst_one_ends_with_1_and_a_remedy(made, capsys):
    run, config = made
    assert command(config, "--slides", "2") == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("wsi-kd: error: bfloat16 on cpu: case0")
    assert "abmil/seed0/fold0, the teacher's logit of" in shown.err
    assert shown.err.endswith("embed with embed.precision: float32 and without embed.compile\n")
    assert shown.err.count("\n") == 1
    assert "abmil teacher" in shown.out
    record = read_json(run.root / "evaluation" / "precision.json", remake="")
    assert (record["passed"], len(record["slides"])) == (False, 2)
    assert [model["model"].split("/")[0] for model in record["models"]] == ["abmil", "weno"]


def test_a_model_is_named_by_its_folder(made, capsys):
    run, config = made
    assert command(config, "--model", str(run.root / "models" / "weno"), "--slides", "1") == 0
    assert "teacher" in capsys.readouterr().out


def test_a_run_in_float32_has_nothing_to_check(made, tmp_path, capsys):
    _, config = made
    settings = yaml.safe_load(config.read_text())
    settings["embed"]["precision"] = "auto"
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(settings))
    assert command(plain, "--recipe", "weno") == 0
    told = capsys.readouterr().out
    assert told.startswith("check-precision: nothing to check: embed.precision auto is float32 on cpu")
    assert command(plain, "--recipe", "weno", "--slides", "1", "--precision", "bfloat16") == 0
    assert "bfloat16 on cpu: passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--recipe", "weno", "--model", "x"], "give either --recipe or --model, not both"),
        (["--recipe", "instance"], "make it with: wsi-kd train"),
        (["--seed", "7"], "no model of this seed and fold; train one with: wsi-kd train"),
        (["--model", "absent"], "no model.json there"),
        (["--slides", "0"], "Invalid value for '--slides'"),
        (["--precision", "float16"], "'float16' is not"),
        (["--compile"], "embed.compile needs a GPU"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_two(made, capsys, arguments, told):
    assert command(made[1], *arguments) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_verify_knows_the_file_and_tells_when_it_is_of_former_models_or_features(made, capsys):
    run, config = made
    path = run.root / "evaluation" / "precision.json"
    assert command(config, "--recipe", "weno", "--slides", "2") == 0
    record = read_json(path, remake="")
    assert precision_faults(run) == []
    run.save_model("weno", gain=2.0)
    assert precision_faults(run) == [
        "weno/seed0/fold0: checked with other weights; check anew with: wsi-kd check-precision"
    ]
    run.save_model("weno")
    before = run.features("case01_0")
    features = run.root / "features" / "case01_0.h5"
    write_features(features, before._replace(header={**before.header, "inputs_hash": "another"}))
    assert precision_faults(run) == ["case01_0: other features now; check anew with: wsi-kd check-precision"]
    write_features(features, before)
    publish_json(path, {**record, "models": [{**record["models"][0], "model": "gone/seed0/fold0"}]})
    assert len(precision_faults(run)) == 1
    publish_json(path, {**record, "models": [{**record["models"][0], "weights_sha256": "", "in_run": False}]})
    assert precision_faults(run) == []
    path.write_text(json.dumps(record))
    assert "no content_sha256" in precision_faults(run)[0]
    publish_json(path, {**record, "schema_version": 99})
    assert "schema version 99" in precision_faults(run)[0]
    path.unlink()
    assert precision_faults(run) == []


def test_a_slide_that_crashes_its_reader_does_not_take_the_command_along():
    assert "check-precision" in GUARDED
