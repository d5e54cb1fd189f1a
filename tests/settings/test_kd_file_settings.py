from pathlib import Path
from typing import get_args

import pytest
import yaml

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.registry import TRAINERS
from wsi_kd.distillation.sources.registry import SOURCES
from wsi_kd.settings.changes import changed
from wsi_kd.settings.distill import DistillSettings, read_distill_settings
from wsi_kd.settings.distill_encoder import is_of_tiles, read_encoder_settings
from wsi_kd.settings.distill_networks import SgdSettings
from wsi_kd.settings.document import distill_schema_json
from wsi_kd.settings.faults import parse

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs" / "kd"
SMALL = {
    "data": {"name": "digits"},
    "student": {"name": "mlp", "hidden": [32]},
    "teachers": {"network": {"name": "mlp", "hidden": [256]}},
    "criteria": [{"type": "kd", "weight": 0.9, "temperature": 4}],
}


def read(**sections) -> DistillSettings:
    return parse(DistillSettings, {**SMALL, **sections}, where="x")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_is_valid(path):
    read = read_encoder_settings if is_of_tiles(path) else read_distill_settings
    assert read(path).criteria


def test_the_file_of_the_documentation_is_valid_and_its_sources_are_those_there_are():
    page = (CONFIGS.parent.parent / "docs" / "kd.md").read_text()
    section = page.split("## From a file: `wsi-kd distill`")[1].split("\n## ")[0]
    text = section.split("```yaml\n")[1].split("```")[0]
    assert parse(DistillSettings, yaml.safe_load(text), where="docs").teachers[0].train.epochs == 40
    table = section.split("| `data.name` | what |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [row.split("`")[1].partition(":")[0] for row in table.splitlines()]
    assert set(rows) == {*SOURCES, "python", "tiles"}


def test_the_schema_file_is_the_models_schema():
    assert (CONFIGS / "schema.json").read_text() == distill_schema_json()


def test_every_method_has_settings_and_the_other_way_around():
    union = DistillSettings.model_fields["method"].annotation
    named = [get_args(model.model_fields["name"].annotation)[0] for model in get_args(union) or (union,)]
    assert set(named) == set(TRAINERS)


def test_one_teacher_is_a_list_of_one_and_the_loss_keeps_its_own_options():
    settings = read()
    assert len(settings.teachers) == 1
    assert settings.teachers == read(teachers=[SMALL["teachers"]]).teachers
    assert settings.criteria[0].options == {"temperature": 4}
    assert settings.model_dump(mode="json")["criteria"][0]["temperature"] == 4


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"studnet": {}}, "x: unknown key 'studnet' (did you mean 'student'?)"),
        ({"data": {"name": "digit"}}, "x: unknown data 'digit' (did you mean 'digits'?)"),
        (
            {"data": {"name": "digits", "batchsize": 1}},
            "x: unknown key 'data.batchsize' (did you mean 'batch_size'?)",
        ),
        ({"data": {"nam": "digits"}}, "x: data: expected {name: ...}, found {'nam': 'digits'}"),
        ({"data": {"name": "npz"}}, "x: data.path: it is missing"),
        ({"student": {"name": "mpl"}}, "x: unknown student 'mpl' (did you mean 'mlp'?)"),
        (
            {"student": {"name": "mlp", "hiden": [1]}},
            "x: unknown key 'student.hiden' (did you mean 'hidden'?)",
        ),
        (
            {"teachers": [{"network": {"name": "timm:a", "argument": {}}}]},
            "x: unknown key 'teachers.0.network.argument' (did you mean 'arguments'?)",
        ),
        (
            {"teachers": {"network": {"name": "mlp"}, "train": {"epoch": 3}}},
            "x: unknown key 'teachers.0.train.epoch' (did you mean 'epochs'?)",
        ),
        (
            {"train": {"optimizer": {"name": "sgdd"}}},
            "x: unknown train.optimizer 'sgdd' (did you mean 'sgd'?)",
        ),
        (
            {"train": {"optimizer": {"name": "adamw", "betta": 1}}},
            "x: unknown key 'train.optimizer.betta' (did you mean 'betas'?)",
        ),
        (
            {"criteria": [{"type": "kd", "schedule": {"name": "linaer"}}]},
            "x: unknown criteria.0.schedule 'linaer' (did you mean 'linear'?)",
        ),
        (
            {"criteria": []},
            "x: criteria: tuple should have at least 1 item after validation, not 0, found []",
        ),
        (
            {"method": {"name": "plain", "unlabelled": True}},
            "x: unknown key 'method.unlabelled' (did you mean 'unlabeled'?)",
        ),
        (
            {"train": {"augmentation": [{"name": "mixup", "alhpa": 1}]}},
            "x: unknown key 'train.augmentation.0.alhpa' (did you mean 'alpha'?)",
        ),
    ],
)
def test_unknown_keys_and_names_are_told_with_the_nearest(sections, line):
    with pytest.raises(BadInput) as caught:
        read(**sections)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"data": {"name": "digits", "val": 1.5}}, "data.val"),
        ({"data": {"name": "digits", "val": 0}}, "data.val"),
        ({"data": {"name": "digits", "label_noise": 1.0}}, "data.label_noise"),
        ({"data": {"name": "python:os.system;ls"}}, "data.name"),
        ({"student": {"name": "mlp", "hidden": [0]}}, "student.hidden.0"),
        ({"train": {"optimizer": {"name": "sgd", "learning_rate": -1}}}, "train.optimizer.learning_rate"),
        ({"criteria": [{"type": "kd", "weight": -0.5}]}, "criteria.0.weight"),
        ({"criteria": [{"type": "hint", "layers": ["one"]}]}, "criteria.0.layers"),
        ({"method": {"name": "plian"}}, "method"),
    ],
)
def test_wrong_values_name_the_key_and_what_came(sections, where):
    with pytest.raises(BadInput, match=rf"^x: (unknown )?{where}[ .:]"):
        read(**sections)


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"train": {"epochs": True}}, "train.epochs"),
        ({"train": {"optimizer": {"name": "adam", "betas": [True, 0.9]}}}, "train.optimizer.betas"),
        ({"teachers": [{"network": {"name": "mlp"}, "train": {"seed": True}}]}, "teachers.0.train.seed"),
        ({"student": {"name": "mlp", "hidden": [True]}}, "student.hidden"),
        ({"data": {"name": "digits", "val": True}}, "data.val"),
        ({"method": {"name": "variance_reduction", "weight": True}}, "method.weight"),
    ],
)
def test_true_is_no_number(sections, where):
    with pytest.raises(BadInput, match=rf"^x: {where}: expected a number, found \[?True"):
        read(**sections)


def test_numbers_and_shares_are_told_apart():
    settings = read(data={"name": "digits", "val": 60, "test": 0.25})
    assert (type(settings.data.val), type(settings.data.test)) == (int, float)


def test_python_tags_are_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data: !!python/object/apply:os.system ['touch harm']\n")
    with pytest.raises(BadInput, match=r"not valid YAML.*could not determine a constructor") as caught:
        read_distill_settings(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"no-such.yaml: cannot be read"):
        read_distill_settings(tmp_path / "no-such.yaml")


def test_changes_from_the_command_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    changes = [
        "train.epochs=5",
        "train.optimizer.name=sgd",
        "criteria.0.weight=0.25",
        "student.hidden=[4, 4]",
    ]
    settings = read_distill_settings(path, changes=changes)
    assert settings.train.epochs == 5
    assert settings.train.optimizer == SgdSettings(name="sgd")
    assert settings.criteria[0].weight == 0.25
    assert settings.student.hidden == (4, 4)
    with pytest.raises(BadInput, match=r"unknown key 'train.epoch' .did you mean 'epochs'"):
        read_distill_settings(path, changes=["train.epoch=5"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("train.epochs", "expected key.key=VALUE"),
        ("=3", "expected key.key=VALUE"),
        ("a..b=3", "expected key.key=VALUE"),
        ("criteria.1.weight=3", "'1' of a list of 1; expected 0 to 0"),
        ("criteria.kd.weight=3", "'kd' of a list of 1"),
        ("student.name.x=3", "'x' would stand below 'mlp', which is no section"),
        ("student.hidden=[3", "no value of YAML"),
    ],
)
def test_changes_that_cannot_be_made(change, line):
    with pytest.raises(BadInput) as caught:
        changed(SMALL, [change])
    assert str(caught.value).startswith(f"--set {change}: ")
    assert line in str(caught.value)


def test_changes_leave_what_they_are_made_of_alone():
    made = changed(SMALL, ["criteria.0.weight=7"])
    assert made["criteria"][0]["weight"] == 7
    assert SMALL["criteria"][0]["weight"] == 0.9
