"""Top-k pooling by hand, and its limits: max pooling at 1, mean pooling from the bag's size on."""

import pytest
import torch

from wsi_kd.mil.max_pooling import MaxPooling
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.pooling import segment_softmax
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.top_k_pooling import TopKPooling

INSTANCES = torch.tensor([[1.0, 0.0], [3.0, 5.0], [2.0, 1.0], [0.0, 4.0]])
OFFSETS = torch.tensor([0, 3, 4])


def with_identity_head(top_k):
    teacher = TopKPooling(hidden_dim=2, classes=2, top_k=top_k)
    torch.nn.init.eye_(teacher.bag_head.weight)
    torch.nn.init.zeros_(teacher.bag_head.bias)
    return teacher


def test_top_two_by_hand():
    output = with_identity_head(2)(INSTANCES, OFFSETS)  # margins -1, 2, -1 and 4: the first of equals
    assert output.bag_logits.tolist() == [[2.0, 2.5], [0.0, 4.0]]
    assert segment_softmax(output.attention_logits, OFFSETS).tolist() == [0.5, 0.5, 0.0, 1.0]
    keep = torch.tensor([True, False, True, True])
    masked = with_identity_head(2)(INSTANCES, OFFSETS, keep)
    assert masked.bag_logits.tolist() == [[1.5, 0.5], [0.0, 4.0]]
    alone = with_identity_head(2)(INSTANCES, OFFSETS, torch.tensor([True, False, False, True]))
    assert alone.bag_logits.tolist() == [[1.0, 0.0], [0.0, 4.0]]  # fewer are kept than k


@pytest.mark.parametrize(("top_k", "other"), [(1, MaxPooling), (3, MeanPooling), (99, MeanPooling)])
def test_limits_are_max_and_mean_pooling(top_k, other):
    torch.manual_seed(0)
    teacher, limit = TopKPooling(hidden_dim=2, classes=3, top_k=top_k), other(hidden_dim=2, classes=3)
    limit.load_state_dict(teacher.state_dict())
    torch.testing.assert_close(
        teacher(INSTANCES, OFFSETS).bag_logits, limit(INSTANCES, OFFSETS).bag_logits, atol=1e-6, rtol=1e-6
    )


def test_the_gradient_reaches_the_chosen_instances_only():
    instances = INSTANCES.clone().requires_grad_()
    with_identity_head(2)(instances, OFFSETS).bag_logits[:, 1].sum().backward()
    assert instances.grad.tolist() == [[0.0, 0.5], [0.0, 0.5], [0.0, 0.0], [0.0, 1.0]]


def test_a_checkpoint_says_how_many_are_averaged():
    shape = {"feature_dim": 2, "classes": 2, "hidden_dim": 4, "attention_dim": 4, "dropout": 0.0}
    models = [
        create_model("top_k_pooling", **shape, student_hidden_dim=0, with_student=False, top_k=top_k)
        for top_k in (1, 3)
    ]
    assert [model.teacher.top_k for model in models] == [1, 3]
