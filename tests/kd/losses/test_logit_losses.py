"""Losses of logits: what a distillation loss must hold, whatever the numbers."""

import math

import pytest
import torch
import torch.nn.functional as F

from wsi_kd.kd.losses.dist import DistLoss, pearson
from wsi_kd.kd.losses.dkd import DkdLoss, decoupled_terms
from wsi_kd.kd.losses.kl import BinaryKdLoss, KdLoss, tempered_kl
from wsi_kd.kd.losses.task import BinaryCrossEntropyLoss, CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs

SAMPLES, CLASSES = 6, 5


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def student():
    return (2.0 * draw(0, SAMPLES, CLASSES)).requires_grad_()


@pytest.fixture
def teacher():
    return 2.0 * draw(1, SAMPLES, CLASSES)


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 3, 4, 0])


def gradient(loss, of):
    return torch.autograd.grad(loss, of)[0]


def call(loss, student, teacher, labels=None):
    return loss(Outputs(student), Outputs(teacher), labels)


def test_kd_is_worked_by_hand():
    """At T = 2 the teacher says (3/4, 1/4), the student (1/2, 1/2)."""
    teacher = torch.tensor([[2.0 * math.log(3.0), 0.0]])

    found = call(KdLoss(temperature=2.0), torch.zeros(1, 2), teacher)

    assert found.item() == pytest.approx(4.0 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_gradient_of_kd_is_t_times_the_difference_of_probabilities(student, teacher, temperature):
    """A loss without T^2 is smaller by it, one averaged over the classes too by their number."""
    found = gradient(call(KdLoss(temperature=temperature), student, teacher), student)

    gap = (student / temperature).softmax(dim=1) - (teacher / temperature).softmax(dim=1)
    torch.testing.assert_close(found, temperature * gap / SAMPLES, rtol=1e-12, atol=1e-15)


def test_hot_kd_matches_centered_logits(student, teacher):
    found = gradient(call(KdLoss(temperature=1e4), student, teacher), student)

    ours, theirs = (logits - logits.mean(dim=1, keepdim=True) for logits in (student, teacher))
    torch.testing.assert_close(found, (ours - theirs) / (CLASSES * SAMPLES), rtol=1e-2, atol=1e-5)


def test_kd_divides_by_the_samples_only(student, teacher):
    whole = call(KdLoss(), student, teacher)
    each = [call(KdLoss(), student[[row]], teacher[[row]]) for row in range(SAMPLES)]

    torch.testing.assert_close(whole, torch.stack(each).mean())


def test_kd_takes_the_divergence_from_the_teacher(student, teacher):
    """The reverse, KL(student || teacher), is what swapped arguments give."""
    ours, theirs = student.softmax(dim=1), teacher.softmax(dim=1)
    forward = (theirs * (theirs / ours).log()).sum(dim=1).mean()
    reverse = (ours * (ours / theirs).log()).sum(dim=1).mean()

    torch.testing.assert_close(tempered_kl(student, teacher, temperature=1.0), forward)
    assert abs(forward.item() - reverse.item()) > 0.1


@pytest.mark.parametrize("loss", [KdLoss(), KdLoss(temperature=1.0), DkdLoss(), DistLoss()], ids=repr)
def test_equal_logits_cost_nothing_and_pull_nowhere(teacher, labels, loss):
    student = teacher.clone().requires_grad_()
    found = call(loss, student, teacher, labels)

    assert found.item() == pytest.approx(0.0, abs=1e-6)
    assert gradient(found, student).abs().max().item() < 1e-6


@pytest.mark.parametrize("loss", [KdLoss(), DkdLoss(), DistLoss()], ids=repr)
def test_a_number_added_to_all_logits_of_a_sample_changes_nothing(student, teacher, labels, loss):
    shifts = 10.0 * draw(2, SAMPLES, 1)
    before = call(loss, student, teacher, labels)

    torch.testing.assert_close(call(loss, student + shifts, teacher, labels), before)
    torch.testing.assert_close(call(loss, student, teacher - shifts, labels), before)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_at_t_1_kd_and_labels_are_the_cross_entropy_with_mixed_labels(student, teacher, labels, share):
    both = (1.0 - share) * call(CrossEntropyLoss(), student, teacher, labels)
    both = both + share * call(KdLoss(temperature=1.0), student, teacher)
    mixed = (1.0 - share) * F.one_hot(labels, CLASSES).double() + share * teacher.softmax(dim=1)

    found = gradient(both, student)
    expected = gradient(call(CrossEntropyLoss(), student, teacher, mixed), student)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_target_s_term_and_the_others_times_what_the_teacher_leaves(
    student, teacher, labels, temperature
):
    terms = decoupled_terms(student, teacher, labels, temperature=temperature)
    left = 1.0 - (teacher / temperature).softmax(dim=1).gather(1, labels[:, None]).squeeze(1)

    for row in range(SAMPLES):
        kd = tempered_kl(student[[row]], teacher[[row]], temperature=temperature)
        whole = terms.target[row] + left[row] * terms.others[row]
        torch.testing.assert_close(whole, kd, rtol=1e-12, atol=1e-14)


def test_two_classes_leave_nothing_for_the_others(student, teacher):
    terms = decoupled_terms(student[:, :2], teacher[:, :2], torch.tensor([0, 1] * 3), temperature=1.0)

    assert terms.others.abs().max().item() == 0.0
    torch.testing.assert_close(
        terms.target.mean(), tempered_kl(student[:, :2], teacher[:, :2], temperature=1.0)
    )


def test_dkd_stays_finite_where_a_teacher_is_sure():
    teacher = torch.tensor([[900.0, 0.0, -900.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    found = call(DkdLoss(temperature=1.0), student, teacher, torch.tensor([0]))

    assert found.item() == pytest.approx(math.log(3.0) + 8.0 * math.log(2.0), rel=1e-6)
    assert gradient(found, student).isfinite().all()


def test_the_gradient_of_binary_kd_is_the_difference_of_probabilities(student, teacher):
    found = gradient(call(BinaryKdLoss(), student, teacher), student)
    torch.testing.assert_close(
        found, (student.sigmoid() - teacher.softmax(dim=1)) / (SAMPLES * CLASSES), rtol=1e-12, atol=1e-15
    )

    found = gradient(call(BinaryKdLoss(activation="sigmoid"), student, teacher), student)
    torch.testing.assert_close(
        found, (student.sigmoid() - teacher.sigmoid()) / (SAMPLES * CLASSES), rtol=1e-12, atol=1e-15
    )


def test_binary_kd_of_a_single_logit_learns():
    student = torch.zeros(2, 1, requires_grad=True)
    found = call(BinaryKdLoss(activation="sigmoid"), student, torch.tensor([[30.0], [-30.0]]))

    assert gradient(found, student).flatten().tolist() == pytest.approx([-0.25, 0.25])


def test_dist_cares_for_neither_scale_nor_offset_of_probabilities():
    """Rows of p are moved linearly: the correlation stays 1, the divergence does not stay 0."""
    teacher = draw(3, SAMPLES, CLASSES).softmax(dim=1)
    student = 0.5 * teacher + 0.5 / CLASSES

    assert pearson(student, teacher, dim=1).tolist() == pytest.approx([1.0] * SAMPLES, abs=1e-5)
    assert call(DistLoss(gamma=0.0), student.log(), teacher.log()).item() == pytest.approx(0.0, abs=1e-5)
    assert call(KdLoss(temperature=1.0), student.log(), teacher.log()).item() > 0.005


def test_dist_between_and_within_classes():
    """Class 0 rises from sample to sample on both sides; in the first sample the classes are turned."""
    teacher, student = torch.tensor([[0.2, 0.8], [0.8, 0.2]]), torch.tensor([[0.6, 0.4], [0.9, 0.1]])

    within = call(DistLoss(beta=0.0), student.log(), teacher.log()).item()
    between = call(DistLoss(gamma=0.0), student.log(), teacher.log()).item()
    assert within == pytest.approx(0.0, abs=1e-5)
    assert between == pytest.approx(1.0, abs=1e-5)


def test_dist_of_constant_probabilities_has_a_finite_gradient(teacher):
    student = torch.zeros(SAMPLES, CLASSES, dtype=torch.float64, requires_grad=True)
    found = call(DistLoss(), student, teacher)

    assert found.item() == pytest.approx(2.0)  # no correlation, between classes and within them
    assert gradient(found, student).isfinite().all()


def test_soft_labels_and_classes_agree(student, teacher, labels):
    soft = F.one_hot(labels, CLASSES).double()

    for loss in (CrossEntropyLoss(smoothing=0.1), BinaryCrossEntropyLoss(smoothing=0.1), DkdLoss()):
        found = call(loss, student, teacher, soft)
        torch.testing.assert_close(found, call(loss, student, teacher, labels))


def test_the_task_s_losses_are_worked_by_hand():
    logits, labels = torch.zeros(1, 4), torch.tensor([2])

    assert call(CrossEntropyLoss(), logits, logits, labels).item() == pytest.approx(math.log(4.0))
    assert call(BinaryCrossEntropyLoss(), logits, logits, labels).item() == pytest.approx(math.log(2.0))
    two = torch.tensor([[math.log(3.0), 0.0]])  # softmax (3/4, 1/4); smoothed to (0.9, 0.1)
    found = call(CrossEntropyLoss(smoothing=0.2), two, two, torch.tensor([0])).item()
    assert found == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
    sure = torch.tensor([[0.0, 0.0, math.log(3.0), 0.0]])  # sigmoid 3/4; smoothed to 0.8 + 0.05 and 0.05
    found = call(BinaryCrossEntropyLoss(smoothing=0.2), sure, logits, labels).item()
    own = -0.85 * math.log(0.75) - 0.15 * math.log(0.25)
    assert found == pytest.approx((own + 3.0 * math.log(2.0)) / 4.0)


def test_the_gradient_of_the_recipe_for_pictures_is_worked_out(student, teacher, labels):
    """BCE on mixed labels and KL at T = 1: (sigmoid(s) - y) / (B K) + (softmax(s) - softmax(t)) / B."""
    mixed = 0.7 * F.one_hot(labels, CLASSES).double() + 0.3 * F.one_hot(labels.flip(0), CLASSES).double()
    both = call(BinaryCrossEntropyLoss(), student, teacher, mixed)
    both = both + call(KdLoss(temperature=1.0), student, teacher)

    hard = (student.sigmoid() - mixed) / (SAMPLES * CLASSES)
    soft = (student.softmax(dim=1) - teacher.softmax(dim=1)) / SAMPLES
    torch.testing.assert_close(gradient(both, student), hard + soft, rtol=1e-12, atol=1e-15)
