"""Section train.distill: what is refused when the settings are read."""

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import parse_settings

RECIPES = ["weno", "instance", "distill"]


def parse(**train):
    return parse_settings({"train": {"recipes": RECIPES, **train}}, where="x").train


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"distill": {"teacher_recipe": "distill"}}, "x: train.distill.teacher_recipe: .*found 'distill'"),
        ({"distill": {"temperature": 0}}, "x: train.distill.temperature: .*greater than 0, found 0"),
        ({"distill": {"hint_weigth": 1}}, "unknown key 'train.distill.hint_weigth' .*'hint_weight'"),
        (
            {"distill": dict.fromkeys(("bag_weight", "attention_weight", "instance_weight"), 0)},
            "bag_weight, attention_weight, instance_weight and hint_weight are all 0",
        ),
        ({"distill": {"teacher": "max_pooling"}}, "that of teacher max_pooling is a fixed rule"),
        (
            {"teacher": "mean_pooling", "weno": {"pseudo_label": "evidence"}},
            "mean_pooling, the teacher of recipe weno, has none; set distill.attention_weight to 0",
        ),
        (
            {"instance": {"pooling": "mean"}, "distill": {"teacher_recipe": "instance"}},
            "mean_pooling, the teacher of recipe instance, has none",
        ),
    ],
)
def test_what_cannot_be_learned_is_one_line(train, line):
    with pytest.raises(BadInput, match=line) as caught:
        parse(**train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "train",
    [
        {"teacher": "mean_pooling", "distill": {"attention_weight": 0}},
        {"teacher": "mean_pooling", "distill": {"teacher_recipe": "instance"}},
        {"teacher": "mean_pooling", "recipes": ["weno"]},
        {"instance": {"pooling": "max"}, "distill": {"teacher_recipe": "instance"}},
    ],
)
def test_what_can_be_learned_is_taken(train):
    assert parse(**train).distill.temperature == 4.0
