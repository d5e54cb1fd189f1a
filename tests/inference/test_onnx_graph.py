"""The graph of one bag says what `predict_bag` says: in torch, before ONNX has a part in it."""

import pytest
import torch
from exported_models import FEATURES, THREE, TWO, drawn_model

from wsi_kd.inference.onnx_export import TOLERANCE, largest_difference
from wsi_kd.inference.onnx_graph import ONE_BAG, OUTPUTS, BagGraph
from wsi_kd.mil.registry import TEACHERS


def runner(loaded, part):
    graph = BagGraph(
        loaded.model,
        teacher=None if part == "student" else loaded.header["model"]["teacher"],
        student=part != "teacher",
        top_k=loaded.header["top_k"],
    )

    def run(features):
        with torch.no_grad():
            found = graph(torch.from_numpy(features))
        return {name: values.numpy() for name, values in zip(OUTPUTS[part], found, strict=True)}

    return run


@pytest.mark.parametrize("classes", [TWO, THREE])
@pytest.mark.parametrize("teacher", ONE_BAG)
def test_every_teachers_graph_is_the_packed_model(teacher, classes):
    """Bags of fewer tiles than top_k and than pseudo-bags among them."""
    loaded = drawn_model(teacher, classes=classes)
    for part in OUTPUTS:
        found = largest_difference(runner(loaded, part), loaded, part=part, tiles=(1, 2, 3, 7, 1000))
        assert found < TOLERANCE / 10, part


@pytest.mark.parametrize(
    "changes", [{"student_hidden_dim": 5}, {"student_prototypes": 3}, {"projector": "affine"}]
)
def test_every_student_and_projector_is(changes):
    loaded = drawn_model("abmil", **changes)
    assert largest_difference(runner(loaded, "both"), loaded, part="both", tiles=(1, 50)) < TOLERANCE / 10


def test_a_graph_that_says_something_else_is_found_out():
    """Every output that is off by a thousandth is a difference."""
    loaded = drawn_model("gated_abmil")
    right = runner(loaded, "both")
    for name in OUTPUTS["both"]:

        def wrong(features, name=name):
            found = right(features)
            return {**found, name: found[name] + 1e-2}

        assert largest_difference(wrong, loaded, part="both", tiles=(7,)) > TOLERANCE, name


def test_the_outputs_have_the_documented_shapes():
    found = runner(drawn_model("clam_mb", classes=THREE), "both")(torch.zeros(5, FEATURES).numpy())
    assert {name: values.shape for name, values in found.items()} == {
        "bag_probability": (3,),
        "attention": (5,),
        "attention_logits": (5,),
        "evidence": (5, 2),
        "instance_logits": (5, 2),
        "instance_probability": (5, 2),
        "student_max_probability": (3,),
        "student_topk_probability": (3,),
        "feature_distance": (5,),
    }
    assert set(ONE_BAG) <= set(TEACHERS)
