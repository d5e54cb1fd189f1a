"""What is measured: by hand on small bags, and on a model whose scores are known."""

import numpy as np
import pytest
import torch

from bag_parts import make_bags
from experiment_scores import Pooling, Scored, measure, measure_accuracy, pool_bags, score_model
from wsi_kd.mil.registry import create_model

BAGS = make_bags(
    np.zeros((5, 2), np.float32),
    sizes=[3, 2],
    labels=np.array([1, 0]),
    tile_labels=np.array([1, 1, 0, 0, 0], np.int8),
)


def scored(instances, bags, deployed="teacher"):
    return Scored(bags, {"student": np.array(instances)}, deployed)


def test_measures_worked_by_hand():
    found = measure(
        scored([3.0, 1.0, 2.0, 0.0, 2.5], {"teacher": np.array([0.2, 0.1])}),
        BAGS,
        hard=np.array([False, True, False, False, False]),
    )
    assert found["bag_teacher"] == found["bag_deployed"] == 1.0
    assert found["auc_student"] == pytest.approx(4 / 6)  # 3.0 above all three, 1.0 above one
    assert found["auc_student_inside"] == 0.5
    assert found["ap_student"] == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert found["ap_student_inside"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found["hard_student"] == pytest.approx(1 / 3)


def test_instances_without_truth_are_left_out():
    unknown = BAGS._replace(tile_labels=np.array([1, -1, 0, 0, -1], np.int8))
    found = measure(scored([3.0, -9.0, 2.0, 0.0, 9.0], {"teacher": np.array([0.0, 1.0])}), unknown, hard=None)
    assert found["auc_student"] == 1.0
    assert found["bag_teacher"] == 0.0
    nothing = BAGS._replace(tile_labels=np.full(5, -1, np.int8))
    assert set(measure(scored([0.0] * 5, {"teacher": np.array([0.0, 1.0])}), nothing, hard=None)) == {
        "bag_teacher",
        "bag_deployed",
    }


def test_pooling_worked_by_hand():
    pooled = pool_bags(np.array([1.0, 5.0, 3.0, -1.0, 4.0]), BAGS.offsets, top_k=2)
    assert {name: values.tolist() for name, values in pooled.items()} == {
        "student_max": [5.0, 4.0],
        "student_topk": [4.0, 1.5],
        "student_mean": [3.0, 1.5],
    }


def test_accuracy_is_at_the_threshold_of_validation():
    """Validation separates at 2.5: the test bag of 2.0 is called negative, though its odds are positive."""
    labels = np.array([1, 0, 1])
    bags = BAGS._replace(labels=labels)
    test = Scored({"teacher": np.array([3.0, 2.0, 1.0])}, {}, "teacher")
    val = Scored({"teacher": np.array([4.0, 2.0, 3.0])}, {}, "teacher")
    found = measure_accuracy(test, bags, on_val=val, val=bags)
    assert found["accuracy_teacher"] == found["accuracy_deployed"] == pytest.approx(2 / 3)
    assert found["accuracy_even_teacher"] == pytest.approx(2 / 3)
    wrong = measure_accuracy(test, bags._replace(labels=1 - labels), on_val=val, val=bags)
    assert wrong["accuracy_even_teacher"] == pytest.approx(1 / 3)


@pytest.fixture(params=[True, False])
def model(request):
    torch.manual_seed(0)
    return create_model(
        "abmil",
        feature_dim=2,
        classes=2,
        hidden_dim=4,
        attention_dim=3,
        dropout=0.5,
        student_hidden_dim=0,
        with_student=request.param,
    )


def test_a_models_scores_are_those_of_its_bags_alone(model):
    """Packed and in eval mode: a bag scores as it does alone; attention sums to the bag's size."""
    features = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    bags = BAGS._replace(features=features)
    found = score_model(model.train(), bags, Pooling("topk", 2))
    assert model.training
    assert found.deployed == ("teacher" if model.student is None else "student_topk")
    assert found.instances["attention"][:3].sum() == pytest.approx(3.0)
    assert found.instances["attention"][3:].sum() == pytest.approx(2.0)
    probability = 1.0 / (1.0 + np.exp(-found.instances["evidence"]))
    np.testing.assert_allclose(
        found.instances["attention_evidence"], found.instances["attention"] * probability, rtol=1e-6
    )
    alone = make_bags(
        features[3:], sizes=[2], labels=np.array([0]), tile_labels=np.zeros(2, np.int8), names=["second"]
    )
    second = score_model(model, alone, Pooling("topk", 2))
    for name, values in second.bags.items():
        assert values[0] == pytest.approx(found.bags[name][1], abs=1e-6)
    if model.student is not None:
        student = found.instances["student"]
        assert found.bags["student_max"].tolist() == [student[:3].max(), student[3:].max()]
