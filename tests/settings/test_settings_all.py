import json

import pytest
from pydantic import BaseModel

from wsi_kd.core.booleans import stands_for_number
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import Settings, parse_json_settings, parse_settings, read_settings, sections_json


def test_an_empty_file_is_all_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert read_settings(path) == Settings()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"tiel": {}}, "c.yaml: unknown key 'tiel' (did you mean 'tile'?)"),
        ({"tile": {"tile_pix": 3}}, "c.yaml: unknown key 'tile.tile_pix' (did you mean 'tile_px'?)"),
        (
            {"train": {"weno": {"mining": {"gaurd": True}}}},
            "c.yaml: unknown key 'train.weno.mining.gaurd' (did you mean 'guard'?)",
        ),
    ],
)
def test_unknown_keys_are_named_with_the_nearest(value, line):
    with pytest.raises(BadInput) as caught:
        parse_settings(value, where="c.yaml")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tile", "tile_px", "large"),
        ("tile", "tile_px", 0),
        ("tile", "tile_mpp", -1),
        ("tile", "tile_mpp", float("nan")),
        ("train", "recipes", ["boosting"]),
        ("train", "epochs", 1.5),
        ("split", "folds", 1),
        ("embed", "dtype", "int8"),
    ],
)
def test_wrong_values_name_the_key_and_what_came(section, key, value):
    with pytest.raises(BadInput, match=rf"^x: {section}\.{key}.*found "):
        parse_settings({section: {key: value}}, where="x")


@pytest.mark.parametrize(
    ("weno", "line"),
    [
        ({}, "makes minmax_global labels only; set pseudo_label to that"),
        ({"pseudo_label": "minmax_global", "label_floor": 0.1}, "knows no label_floor, teacher_average or"),
        ({"pseudo_label": "minmax_global", "teacher_average": 0.9}, "knows no label_floor, teacher_average"),
        ({"pseudo_label": "minmax_global", "bag_label_share": 0.5}, "teacher_average or bag_label_share"),
    ],
)
def test_the_released_schedule_takes_no_changes_of_ours(weno, line):
    with pytest.raises(BadInput, match=line):
        parse_settings({"train": {"weno": {"schedule": "released", **weno}}}, where="x")
    parse_settings({"train": {"weno": {"schedule": "released", "pseudo_label": "minmax_global"}}}, where="x")


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (
            {"teacher": "mean_pooling", "weno": {"pseudo_label": "expmax"}},
            r"pseudo_label expmax is made of attention, teacher mean_pooling has none; set weno.pseudo",
        ),
        (
            {"teacher": "dtfd", "weno": {"schedule": "released", "pseudo_label": "minmax_global"}},
            r"schedule released scores instances out of their bags, teacher dtfd cannot; set teacher to one",
        ),
    ],
)
def test_labels_that_the_teacher_cannot_make_are_refused_where_a_recipe_makes_them(train, line):
    with pytest.raises(BadInput, match=line):
        parse_settings({"train": train}, where="x")
    assert parse_settings({"train": {**train, "recipes": ["abmil"]}}, where="x").train.teacher


@pytest.mark.parametrize(
    ("value", "key", "found"),
    [
        ({"train": {"epochs": True}}, "train.epochs", "True"),
        ({"train": {"learning_rate": False}}, "train.learning_rate", "False"),
        ({"train": {"seeds": [0, True]}}, "train.seeds", r"\[0, True\]"),
        ({"train": {"ins": {"temperature": True}}}, "train.ins.temperature", "True"),
        ({"embed": {"input_px": True}}, "embed.input_px", "True"),
        ({"embed": {"pixel_mean": [0.5, True, 0.5]}}, "embed.pixel_mean", r"\[0.5, True, 0.5\]"),
    ],
)
def test_true_is_no_number(value, key, found):
    with pytest.raises(BadInput, match=rf"^x: {key}: expected a number, found {found}$"):
        parse_settings(value, where="x")


def test_where_true_may_stand_it_is_kept_and_numbers_are_still_read():
    embed = {"model_arguments": {"dynamic_img_size": True, "init_values": 1}}
    value = {
        "embed": embed,
        "mask": {"remove_folds": True},
        "train": {"learning_rate": "1e-3", "epochs": 3.0},
    }
    settings = parse_settings(value, where="x")
    assert settings.embed.model_arguments["dynamic_img_size"] is True
    assert settings.mask.remove_folds is True
    assert (settings.train.learning_rate, settings.train.epochs) == (0.001, 3)


def test_every_number_of_every_section_refuses_true():
    """Whatever setting comes: one that takes 1 and is no switch takes no true."""

    def numbers(model, *before):
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from numbers(field.annotation, *before, name)
            elif stands_for_number(True, field.annotation):
                yield (*before, name)

    found = list(numbers(Settings))
    assert len(found) > 80
    for *sections, name in found:
        value = {name: True}
        for section in reversed(sections):
            value = {section: value}
        with pytest.raises(BadInput, match="expected a number, found True"):
            parse_settings(value, where="x")


def test_all_faults_are_told_at_once():
    with pytest.raises(BadInput) as caught:
        parse_settings({"tile": {"tile_px": 0}, "split": {"folds": 0}}, where="x")
    assert "tile.tile_px" in str(caught.value)
    assert "split.folds" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object/apply:os.system [ls]", "\udcff"])
def test_files_that_are_not_settings(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as caught:
        read_settings(path)
    assert "\n" not in str(caught.value)


def test_sections_travel_as_json_and_come_back_equal():
    settings = parse_settings({"tile": {"tile_px": 100}}, where="x")
    text = sections_json(settings, "slides", "tile")
    assert set(json.loads(text)) == {"slides", "tile"}
    assert parse_json_settings(text).tile == settings.tile
    assert sections_json(parse_json_settings(text), "slides", "tile") == text
