"""A student of several prototypes, and the projector without its nonlinearity."""

import pytest
import torch

from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.projectors import create_projector
from wsi_kd.mil.registry import create_model


def test_logits_are_the_log_sum_exp_of_a_class_prototypes() -> None:
    student = InstanceClassifier(hidden_dim=1, student_hidden_dim=0, positives=2, prototypes=2)
    with torch.no_grad():
        student.head.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0], [0.0]]))
        student.head.bias.zero_()

    logits = student(torch.tensor([[3.0]]))

    expected = [torch.tensor([3.0, -3.0]).logsumexp(0), torch.tensor([6.0, 0.0]).logsumexp(0)]
    assert logits.tolist() == [pytest.approx([value.item() for value in expected])]


def test_prototypes_of_either_kind_make_an_instance_positive() -> None:
    """Positives on both sides of the negatives: no linear student can rank them, two prototypes can."""
    student = InstanceClassifier(hidden_dim=1, student_hidden_dim=0, positives=1, prototypes=2)
    with torch.no_grad():
        student.head.weight.copy_(torch.tensor([[4.0], [-4.0]]))

    left, middle, right = student(torch.tensor([[-2.0], [0.0], [2.0]])).flatten().tolist()

    assert min(left, right) > 0.0 > middle


def test_one_prototype_is_the_linear_student() -> None:
    torch.manual_seed(0)
    plain = InstanceClassifier(hidden_dim=3, student_hidden_dim=0, positives=2)
    torch.manual_seed(0)
    one = InstanceClassifier(hidden_dim=3, student_hidden_dim=0, positives=2, prototypes=1)

    assert all(torch.equal(plain.state_dict()[name], value) for name, value in one.state_dict().items())


def test_affine_projector_has_no_nonlinearity() -> None:
    projector = create_projector("affine", feature_dim=4, hidden_dim=3)
    first, second = torch.randn(2, 5, 4)

    middle = projector((first + second) / 2)

    torch.testing.assert_close(middle, (projector(first) + projector(second)) / 2)
    assert projector(first).min() < 0.0


def test_noise_is_for_learning_only_and_of_the_standardized_scale() -> None:
    torch.manual_seed(0)
    model = create_model(
        "gated_abmil",
        feature_dim=2,
        classes=2,
        hidden_dim=2,
        attention_dim=2,
        dropout=0.0,
        student_hidden_dim=0,
        with_student=True,
        projector="affine",
    )
    model.scaling.fit(mean=torch.zeros(2), deviation=torch.tensor([10.0, 0.1]))
    with torch.no_grad():
        model.projector.weight.copy_(torch.eye(2))
        model.projector.bias.zero_()
    model.projector.learn_by(noise=0.5)
    features = torch.zeros(4_000, 2)

    noisy = model.train().project(features)
    with torch.no_grad():
        unseen = model.project(features)
    quiet = model.eval().project(features)

    assert noisy.std(dim=0).tolist() == pytest.approx([0.5, 0.5], rel=0.05)
    assert not unseen.any()
    assert not quiet.any()
