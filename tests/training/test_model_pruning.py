"""A model narrowed to its best neurons gives what the wide one gives with the others at 0."""

import copy

import numpy as np
import pytest
import torch

from wsi_kd.bags.packing import pack
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral_pruning import find_knee
from wsi_kd.mil.registry import create_model
from wsi_kd.training.pruning import (
    Pooling,
    count_active,
    counts_to_try,
    narrow_model,
    neurons_of,
    validation_curve,
    validation_loss,
)

WIDTH = 6
POOLING = Pooling("topk", 3)


def described(**changes):
    return {
        "teacher": "gated_abmil",
        "feature_dim": WIDTH,
        "classes": 3,
        "hidden_dim": 12,
        "attention_dim": 4,
        "dropout": 0.25,
        "student_hidden_dim": 8,
        "with_student": True,
        "projector": "linear",
        **changes,
    }


def built(**changes):
    torch.manual_seed(0)
    model = create_model(**described(**changes))
    if changes.get("projector", "linear") in ("linear", "affine"):
        model.scaling.fit(mean=torch.full((WIDTH,), 0.5), deviation=torch.full((WIDTH,), 2.0))
    return model.eval()


def said(model, feature_dim=WIDTH):
    drawn = torch.rand(9, feature_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(drawn * 200.0 if feature_dim != WIDTH else drawn, torch.tensor([0, 4, 9]))


def masked(model, name, closed):
    other = copy.deepcopy(model)
    layer = other.get_submodule(name)
    with torch.no_grad():
        layer.weight[closed] = 0.0
        layer.bias[closed] = 0.0
    return other


@pytest.mark.parametrize("layer", ["projector", "student"])
@pytest.mark.parametrize("teacher", ["gated_abmil", "clam_sb", "clam_mb", "dtfd", "mean_pooling"])
@pytest.mark.parametrize("projector", ["linear", "affine"])
def test_narrow_is_the_masked_wide_one(teacher, projector, layer):
    wide = built(teacher=teacher, projector=projector)
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    narrow = narrow_model(wide, described(teacher=teacher, projector=projector), layer=layer, keep=5)
    assert narrow.described["hidden_dim" if layer == "projector" else "student_hidden_dim"] == 5
    name = "projector" if layer == "projector" else "student.hidden.0"
    closed = neurons_of(wide, layer).argsort(descending=True)[5:]
    pairs = zip(said(narrow.model)[:4], said(masked(wide, name, closed))[:4], strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert len(neurons_of(narrow.model, layer)) == 5
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_projector_of_pixels_is_narrowed_at_its_head():
    pixels = {"projector": "cnn_small", "feature_dim": 3 * 16 * 16}
    wide = built(**pixels)
    narrow = narrow_model(wide, described(**pixels), layer="projector", keep=7)
    closed = neurons_of(wide, "projector").argsort(descending=True)[7:]
    other = masked(wide, "projector.head", closed)
    torch.testing.assert_close(said(narrow.model, 768).bag_logits, said(other, 768).bag_logits)


def test_keeping_all_changes_nothing():
    wide = built()
    narrow = narrow_model(wide, described(), layer="projector", keep=12)
    assert all(
        torch.equal(value, narrow.model.state_dict()[name]) for name, value in wide.state_dict().items()
    )


def test_best_neurons_are_those_of_the_largest_weights():
    wide = built()
    with torch.no_grad():
        wide.projector.weight[:] = torch.arange(12.0)[:, None].flip(0) / 10.0
    assert count_active(wide, "projector", threshold=0.5) == 6  # scores 11, 10, ..., 0: above 5.5
    narrow = narrow_model(wide, described(), layer="projector", keep=3)
    torch.testing.assert_close(narrow.model.projector.weight[:, 0], torch.tensor([1.1, 1.0, 0.9]))


def test_curve_ends_at_the_wide_models_loss_and_is_that_of_the_narrow_ones(small_parts):
    val = small_parts[1]
    drawn = np.random.default_rng(0).normal(size=(len(val.features), WIDTH)).astype(np.float32)
    val = val._replace(features=drawn)
    wide = built(classes=2)
    curve = validation_curve(wide, val, layer="projector", pooling=POOLING)
    assert [cut.kept for cut in curve] == counts_to_try(12) == list(range(1, 13))
    assert curve[-1].error == pytest.approx(validation_loss(wide, val, pooling=POOLING), abs=1e-6)
    narrow = narrow_model(wide, described(classes=2), layer="projector", keep=4).model
    assert curve[3].error == pytest.approx(validation_loss(narrow, val, pooling=POOLING), abs=1e-5)
    assert find_knee(curve, tolerance=10.0) == 1


def test_validation_loss_is_the_sum_of_both_models_losses(small_parts):
    val = small_parts[1]
    drawn = np.random.default_rng(0).normal(size=(len(val.features), WIDTH)).astype(np.float32)
    val = val._replace(features=drawn)
    model = built(classes=2)
    packed = pack(val, range(len(val.labels)), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        output = model(packed.instances, packed.offsets)
    losses = torch.nn.functional.cross_entropy(output.bag_logits, packed.labels)
    best = torch.stack([bag.topk(3).values.mean() for bag in output.instance_logits[:, 0].split(20)])
    pairs = best[packed.labels == 0][None, :] - best[packed.labels == 1][:, None]
    expected = losses + torch.nn.functional.softplus(pairs).mean()
    assert validation_loss(model, val, pooling=POOLING) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: narrow_model(built(), described(), layer="projector", keep=13), "keep 13 .* 1 to 12"),
        (lambda: narrow_model(built(), described(), layer="projector", keep=0), "keep 0"),
        (lambda: neurons_of(built(student_hidden_dim=0), "student"), "no student with a hidden layer"),
        (lambda: neurons_of(built(with_student=False), "student"), "no student with a hidden layer"),
        (lambda: neurons_of(built(teacher="dsmil"), "projector"), "cannot be narrowed alone"),
        (lambda: count_active(built(), "projector", threshold=1.0), "threshold 1"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()


def test_layer_of_no_weight_is_refused():
    model = built()
    with torch.no_grad():
        model.projector.weight.zero_()
    with pytest.raises(BadInput, match="no active neuron"):
        count_active(model, "projector", threshold=0.05)
