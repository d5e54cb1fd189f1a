"""The model of teacher and student: packing, dropout's place, scaling, the registry."""

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.scaling import FeatureScaling


def model_of(*, with_student=True, student_hidden_dim=0, teacher="gated_abmil", classes=2, dropout=0.0):
    torch.manual_seed(0)
    return create_model(
        teacher,
        feature_dim=10,
        classes=classes,
        hidden_dim=8,
        attention_dim=4,
        dropout=dropout,
        student_hidden_dim=student_hidden_dim,
        with_student=with_student,
    )


@pytest.mark.parametrize("teacher", ["abmil", "gated_abmil"])
@pytest.mark.parametrize("student_hidden_dim", [0, 5])
def test_packed_bags_equal_single_bags_in_any_order(teacher, student_hidden_dim):
    model = model_of(teacher=teacher, student_hidden_dim=student_hidden_dim).eval()
    sizes = [1, 300, 7, 20_000]
    bags = [torch.randn(size, 10, generator=torch.Generator().manual_seed(size)) for size in sizes]
    single = [model(bag, torch.tensor([0, len(bag)])) for bag in bags]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        offsets = torch.tensor([0, *[sizes[bag] for bag in order]]).cumsum(0)
        packed = model(torch.cat([bags[bag] for bag in order]), offsets)
        expected = torch.cat([single[bag].bag_logits for bag in order])
        torch.testing.assert_close(packed.bag_logits, expected, atol=1e-5, rtol=1e-5)
        students = torch.cat([single[bag].instance_logits for bag in order])
        torch.testing.assert_close(packed.instance_logits, students, atol=1e-5, rtol=1e-5)


def test_dropout_stands_between_projector_and_heads_only():
    model = model_of(dropout=0.5).train()
    features, offsets = torch.randn(6, 10), torch.tensor([0, 6])
    hidden = model.project(features)
    assert torch.equal(hidden, model.project(features))
    quiet = model.teacher(hidden, offsets)
    assert torch.equal(quiet.bag_logits, model.eval()(features, offsets).bag_logits)
    model.train()
    assert not torch.equal(model(features, offsets).bag_logits, quiet.bag_logits)


def test_hiding_instances_changes_the_teacher_and_not_the_student():
    model = model_of().eval()
    features, offsets = torch.randn(6, 10), torch.tensor([0, 6])
    keep = torch.tensor([True] * 3 + [False] * 3)
    whole, masked = model(features, offsets), model(features, offsets, keep)
    assert torch.equal(whole.instance_logits, masked.instance_logits)
    assert not torch.allclose(whole.bag_logits, masked.bag_logits)


def test_a_teacher_alone_has_no_instance_logits_and_takes_more_classes():
    output = model_of(with_student=False, classes=4)(torch.randn(6, 10), torch.tensor([0, 2, 6]))
    assert output.instance_logits is None
    assert output.bag_logits.shape == (2, 4)
    torch.testing.assert_close(output.bag_logits.softmax(1).sum(1), torch.ones(2))


def test_the_student_has_a_column_for_every_positive_class():
    features, offsets = torch.randn(6, 10), torch.tensor([0, 2, 6])
    for teacher, classes in (("gated_abmil", 2), ("gated_abmil", 4), ("clam_mb", 3)):
        output = model_of(teacher=teacher, classes=classes)(features, offsets)
        assert output.instance_logits.shape == (6, classes - 1)
        assert (output.branch_logits is None) == (teacher != "clam_mb")
    assert output.branch_logits.shape == (6, 3)


def test_autocast_keeps_scores_in_float32():
    model = model_of().eval()
    features, offsets = torch.randn(50, 10), torch.tensor([0, 20, 50])
    exact = model(features, offsets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(features, offsets)
    assert {part.dtype for part in rounded[:4]} == {torch.float32}
    torch.testing.assert_close(rounded.bag_logits, exact.bag_logits, atol=0.02, rtol=0.02)


def test_scaling_centers_and_leaves_constant_features_finite():
    scaling = FeatureScaling(3)
    features = torch.tensor([[1.0, 7.0, 1e4], [3.0, 7.0, 3e4]])
    assert torch.equal(scaling(features), features)
    scaling.fit(mean=features.mean(0), deviation=features.std(0, correction=0))
    expected = torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(scaling(features), expected)
    torch.testing.assert_close(scaling(features.half()), expected)


def test_an_unknown_teacher_is_named_with_the_nearest_one():
    with pytest.raises(BadInput, match=r"unknown teacher 'gated'; known: abmil, .*mean 'gated_abmil'\?"):
        model_of(teacher="gated")
