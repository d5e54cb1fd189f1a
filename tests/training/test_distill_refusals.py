"""Recipe distill: what cannot teach or be taught is refused before any step."""

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.mil.registry import FIXED_ATTENTION, create_model
from wsi_kd.settings import recipes as settings_of_recipes
from wsi_kd.training.plan import Compression
from wsi_kd.training.recipes.distill import train_distill

PLAN = Compression(
    narrow_start=False,
    temperature=2.0,
    label_weight=0.1,
    bag_weight=0.9,
    attention_weight=0.5,
    instance_weight=1.0,
    hint_weight=0.0,
    student_pooling="topk",
    top_k=5,
)


@pytest.fixture
def small(plans):
    return plans.architecture._replace(teacher="abmil", hidden_dim=8, attention_dim=4)


def distill(parts, plans, work_dir, *, large, architecture, plan=PLAN):
    return train_distill(
        *parts,
        classes=2,
        architecture=architecture,
        optimization=plans.optimization._replace(epochs=1),
        compression=plan,
        large=large,
        work_dir=work_dir,
        on_epoch=lambda row: None,
    )


def model(plans, **changes):
    arguments = {**plans.architecture._asdict(), "feature_dim": 64, "classes": 2, "with_student": False}
    return create_model(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("large_changes", "small_changes", "line"),
    [
        ({"classes": 3}, {}, "the large model knows 3 classes and the bags have 2"),
        ({"feature_dim": 40}, {}, "the large model reads rows of 40 values and these bags have 64"),
        ({"teacher": "mean_pooling"}, {}, "teacher mean_pooling has no attention to learn from; set"),
        ({}, {"teacher": "max_pooling"}, "attention of teacher max_pooling is a fixed rule"),
    ],
)
def test_what_cannot_teach_or_be_taught_is_refused_before_any_step(
    large_changes, small_changes, line, small_parts, plans, small, work_dir
):
    with pytest.raises(BadInput, match=line):
        distill(
            small_parts,
            plans,
            work_dir,
            large=model(plans, **large_changes),
            architecture=small._replace(**small_changes),
        )
    assert not work_dir.exists()


def test_without_attention_any_pair_is_taken(small_parts, plans, small, work_dir):
    plan = PLAN._replace(attention_weight=0.0)
    trained = distill(
        small_parts,
        plans,
        work_dir,
        large=model(plans, teacher="mean_pooling"),
        architecture=small._replace(teacher="max_pooling"),
        plan=plan,
    )
    assert trained.history[0]["train_attention_loss"] is None


def test_settings_and_registry_name_the_same_fixed_attention():
    assert settings_of_recipes.FIXED_ATTENTION == FIXED_ATTENTION
