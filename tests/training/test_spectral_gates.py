"""Gates on a layer while a model trains: equal at the start, few neurons at the end, a plain model then."""

import copy

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral import neuron_scores
from wsi_kd.mil.projectors import LinearProjector
from wsi_kd.mil.registry import TEACHERS, create_model
from wsi_kd.training.gates import (
    SpectralProjector,
    active_count,
    gate_cost,
    gate_layer,
    parameter_groups,
    reader_names,
    without_gates,
)
from wsi_kd.training.plan import Gates
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno

WIDTH = 6


def built(teacher="gated_abmil", *, hidden=10, student_hidden=0, projector="linear", feature_dim=WIDTH):
    torch.manual_seed(0)
    model = create_model(
        teacher,
        feature_dim=feature_dim,
        classes=2,
        hidden_dim=hidden,
        attention_dim=4,
        dropout=0.0,
        student_hidden_dim=student_hidden,
        with_student=True,
        projector=projector,
    )
    if projector in ("linear", "affine"):
        model.scaling.fit(mean=torch.full((WIDTH,), 0.5), deviation=torch.full((WIDTH,), 2.0))
    return model.eval()


def said(model, rows=7, feature_dim=WIDTH):
    features = torch.randn(rows, feature_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(features, torch.tensor([0, 3, rows]))


@pytest.mark.parametrize("teacher", ["abmil", "clam_mb", "dtfd", "top_k_pooling"])
@pytest.mark.parametrize("projector", ["linear", "affine"])
def test_gates_change_nothing_and_come_off_without_a_trace(teacher, projector):
    model = built(teacher, projector=projector)
    gated = copy.deepcopy(model)
    gate_layer(gated, "projector")
    assert isinstance(gated.projector, SpectralProjector)
    plain = without_gates(gated)
    assert isinstance(plain.projector, LinearProjector)
    assert list(plain.state_dict()) == list(model.state_dict())
    for one in (gated, plain):
        for found, wanted in zip(said(one)[:4], said(model)[:4], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_gates_of_a_student_and_of_a_projector_of_pixels():
    student = built(student_hidden=5)
    gate_layer(student, "student")
    assert active_count(student) == 5
    torch.testing.assert_close(said(student).instance_logits, said(built(student_hidden=5)).instance_logits)
    pixels = built(projector="cnn_small", feature_dim=3 * 16 * 16)
    gate_layer(pixels, "projector")
    assert active_count(pixels) == 10
    assert active_count(without_gates(pixels)) is None


def test_model_without_the_layer_gets_no_gates():
    model = built()
    gate_layer(model, "student")
    assert active_count(model) is None
    assert gate_cost(model, "student") is None
    assert without_gates(model) is model


def test_cost_is_the_sum_of_squares_of_gates_directions_biases_and_readers():
    model = built("abmil", student_hidden=3)
    gate_layer(model, "projector")
    assert isinstance(model.projector, SpectralProjector)
    parts = [
        model.projector.eigenvalues,
        model.projector.directions,
        model.projector.offsets,
        model.teacher.attention_tanh.weight,
        model.teacher.bag_head.weight,
        model.student.hidden[0].weight,
    ]
    expected = sum(float(part.detach().square().sum()) for part in parts)
    assert gate_cost(model, "projector").item() == pytest.approx(expected, rel=1e-6)
    assert model.projector.eigenvalues.tolist() == [-1.0] * 10


def test_noise_is_drawn_on_the_gated_weights():
    model = built()
    model.projector.learn_by(noise=0.5)
    plain = copy.deepcopy(model).train()
    gate_layer(model, "projector")
    model.train()
    features = torch.randn(4, WIDTH)
    torch.manual_seed(3)
    ours = model.project(features)
    torch.manual_seed(3)
    torch.testing.assert_close(ours, plain.project(features), rtol=1e-5, atol=1e-6)
    assert not torch.equal(ours, model.eval().project(features))


def test_gates_step_at_their_own_rate(plans):
    model = built()
    gate_layer(model, "projector")
    optimization = plans.optimization._replace(gates=Gates("projector", 0.01, 50.0))
    weights, gates = parameter_groups(model, optimization)
    assert gates["rate"] == 50.0
    assert gates["params"] == [model.projector.eigenvalues]
    assert len(weights["params"]) + 1 == len(list(model.parameters()))
    (alone,) = parameter_groups(built(), optimization)
    assert len(alone["params"]) == len(list(built().parameters()))


@pytest.mark.parametrize("teacher", sorted(set(TEACHERS) - {"additive_mil", "dsmil", "transmil"}))
def test_every_layer_behind_the_projector_is_known_to_read_it(teacher):
    model = built(teacher)
    gate_layer(model, "projector")
    wide = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.in_features == 10
    }
    assert set(reader_names(model, "projector")) == wide


@pytest.mark.parametrize("teacher", ["additive_mil", "dsmil", "transmil"])
def test_teacher_of_the_projectors_width_is_refused(teacher):
    with pytest.raises(BadInput, match="projector cannot be narrowed alone"):
        gate_layer(built(teacher, hidden=16), "projector")


def test_penalty_leaves_few_neurons_and_a_plain_model(small_parts, plans, tmp_path):
    train, val = small_parts
    optimization = plans.optimization._replace(epochs=40, patience=40, gates=Gates("projector", 0.01, 100.0))
    trained = train_abmil(
        train,
        val,
        classes=2,
        architecture=plans.architecture._replace(teacher="abmil", hidden_dim=32),
        optimization=optimization,
        work_dir=tmp_path,
        on_epoch=lambda row: None,
    )
    counts = [row["active_neurons"] for row in trained.history]
    assert max(counts) == 32
    assert counts[-1] < 16
    assert isinstance(trained.last_model.projector, LinearProjector)
    scores = neuron_scores(trained.last_model.projector)
    assert int((scores > 0.05 * scores.max()).sum()) == counts[-1] < 24
    assert trained.history[-1]["val_teacher_auc"] > 0.9


def test_killed_run_goes_on_bit_for_bit(small_parts, plans, tmp_path):
    train, val = small_parts
    told = {
        "classes": 2,
        "architecture": plans.architecture._replace(hidden_dim=12, student_hidden_dim=6),
        "optimization": plans.optimization._replace(epochs=3, gates=Gates("student", 0.01, 10.0)),
        "distillation": plans.distillation._replace(teacher_average=0.9),
        "mining": None,
    }

    class Killed(Exception):
        pass

    def kill(row):
        if row["epoch"] == 1:
            raise Killed

    whole = train_weno(train, val, **told, work_dir=tmp_path / "whole", on_epoch=lambda row: None)
    with pytest.raises(Killed):
        train_weno(train, val, **told, work_dir=tmp_path / "killed", on_epoch=kill)
    resumed = train_weno(train, val, **told, work_dir=tmp_path / "killed", on_epoch=lambda row: None)
    assert resumed.history == whole.history
    for name, value in whole.last_model.state_dict().items():
        assert torch.equal(resumed.last_model.state_dict()[name], value), name
