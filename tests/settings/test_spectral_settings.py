"""Section train.spectral: what cannot be narrowed is refused before anything is read."""

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.train_plan import plan_optimization
from wsi_kd.training.plan import Gates


def parsed(**train):
    return parse_settings({"train": train}, where="test").train


def test_no_layer_has_gates_unless_one_is_named():
    assert plan_optimization(parsed(), seed=0).gates is None
    told = parsed(spectral={"layer": "projector", "penalty": 0.5, "gate_rate": 3.0})
    assert plan_optimization(told, seed=0).gates == Gates("projector", 0.5, 3.0)


def test_student_with_a_hidden_layer_can_have_gates():
    told = parsed(spectral={"layer": "student"}, weno={"student_hidden_dim": 64}, teacher="transmil")
    assert plan_optimization(told, seed=0).gates == Gates("student", 0.01, 100.0)


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"spectral": {"layer": "student"}}, "set weno.student_hidden_dim to the width"),
        (
            {"spectral": {"layer": "projector"}, "teacher": "dsmil"},
            "teacher dsmil has layers of the projector",
        ),
        (
            {
                "spectral": {"layer": "projector"},
                "recipes": ["weno", "distill"],
                "distill": {"teacher": "transmil", "attention_weight": 0.0},
            },
            "teacher transmil has layers",
        ),
        (
            {
                "spectral": {"layer": "projector"},
                "recipes": ["weno", "distill"],
                "distill": {"start": "copy_average"},
            },
            "distill.start copy_average both decide",
        ),
        ({"spectral": {"layer": "projector", "penalty": 0.0}}, "greater than 0"),
        ({"spectral": {"layer": "teacher"}}, "spectral.layer"),
    ],
)
def test_what_cannot_be_is_refused(train, says):
    with pytest.raises(BadInput, match=says):
        parsed(**train)
