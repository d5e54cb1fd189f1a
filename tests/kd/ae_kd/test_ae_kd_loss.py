"""AE-KD: gradients by formula, weights as constants, both spaces, bad input."""

import math

import pytest
import torch
from distillation_parts import CLASSES, batch_of, make_distiller, make_network

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.adaptive_ensemble import ensemble_weights, teacher_gradients
from wsi_kd.kd.losses.ae_kd import AeKdLoss
from wsi_kd.kd.losses.kl import KdLoss, tempered_kl
from wsi_kd.kd.outputs import Outputs

SAMPLES, TEACHERS, TEMPERATURE = 6, 4, 4.0


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(teachers=TEACHERS):
    return draw(0, SAMPLES, CLASSES).requires_grad_(), [
        2.0 * draw(m + 1, SAMPLES, CLASSES) for m in range(teachers)
    ]


def value_of(loss, student, teachers):
    return loss(Outputs(student), [Outputs(logits) for logits in teachers], None)


def test_the_formula_is_the_gradient():
    student, teachers = sides()
    found = teacher_gradients(student, teachers, temperature=TEMPERATURE)
    for gradient, logits in zip(found, teachers, strict=True):
        loss = tempered_kl(student, logits, temperature=TEMPERATURE)
        torch.testing.assert_close(gradient, torch.autograd.grad(loss, student)[0], rtol=0, atol=1e-15)
    assert not found.requires_grad


@pytest.mark.parametrize("space", ["sample", "batch_mean"])
@pytest.mark.parametrize("tolerance", [0.25, 0.4, 1.0])
def test_weights_are_constants_and_their_sum_of_gradients_is_the_loss_s(space, tolerance):
    student, teachers = sides()
    loss = AeKdLoss(temperature=TEMPERATURE, tolerance=tolerance, space=space)
    (gradient,) = torch.autograd.grad(value_of(loss, student, teachers), student)
    each = teacher_gradients(student, teachers, temperature=TEMPERATURE)
    weights = ensemble_weights(each, tolerance=tolerance, space=space)
    torch.testing.assert_close(gradient, torch.einsum("m,mbk->bk", weights, each), rtol=0, atol=1e-15)
    assert torch.equal(loss.last_weights, weights)


def test_the_value_is_the_weighted_sum():
    student, teachers = sides(2)
    loss = AeKdLoss(temperature=TEMPERATURE, tolerance=1.0)
    value = value_of(loss, student, teachers)
    parts = [tempered_kl(student, logits, temperature=TEMPERATURE) for logits in teachers]
    first, second = loss.last_weights.tolist()
    assert 0.0 < first < 1.0
    assert value.item() == pytest.approx(first * parts[0].item() + second * parts[1].item(), abs=1e-15)


def test_the_step_lowers_every_teacher_s_loss():
    """The mean's does not: four teachers agree, and the fifth knows something else."""
    student = torch.zeros(2, CLASSES, dtype=torch.float64)
    sure = torch.tensor([[6.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[-6.0, 0.0, 0.0], [0.0, 0.0, 6.0]], dtype=torch.float64)
    teachers = [sure, sure, sure, sure, other]
    each = teacher_gradients(student, teachers, temperature=1.0).flatten(1)
    weights = ensemble_weights(each.view(5, 2, CLASSES), tolerance=1.0, space="sample")
    assert (each @ (weights @ each) > 0.0).all()
    assert each[4] @ each.mean(dim=0) < 0.0


def test_a_student_inside_the_hull_of_its_teachers_is_left_alone():
    _, teachers = sides()
    share = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    mixed = torch.einsum("m,mbk->bk", share, torch.stack(teachers).div(TEMPERATURE).softmax(dim=2))
    student = (TEMPERATURE * mixed.log()).requires_grad_()
    loss = AeKdLoss(temperature=TEMPERATURE, tolerance=1.0)
    (gradient,) = torch.autograd.grad(value_of(loss, student, teachers), student)
    assert gradient.abs().max().item() < 1e-10
    assert loss.last_weights.tolist() == pytest.approx(share.tolist(), abs=1e-6)


def test_what_a_teacher_says_of_different_samples_cancels_in_the_mean_only():
    """Samples: (5, -4) and (1, 1), of which 1/41 and 40/41 is the shortest; in the mean 0.5 and 1."""
    each = torch.tensor([[[5.0, 0.0], [-4.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    in_samples = ensemble_weights(each, tolerance=1.0, space="sample")
    in_the_mean = ensemble_weights(each, tolerance=1.0, space="batch_mean")
    assert in_samples.tolist() == pytest.approx([1 / 41, 40 / 41], abs=1e-12)
    assert in_the_mean.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)


def test_the_smallest_tolerance_is_the_mean_of_divergences():
    student, teachers = sides()
    value = value_of(AeKdLoss(temperature=TEMPERATURE, tolerance=0.25), student, teachers)
    parts = [tempered_kl(student, logits, temperature=TEMPERATURE).item() for logits in teachers]
    assert value.item() == pytest.approx(sum(parts) / TEACHERS, abs=1e-14)


def test_equal_teachers_are_one_teacher():
    student, teachers = sides(1)
    value = value_of(AeKdLoss(temperature=TEMPERATURE), student, teachers * 3)
    alone = KdLoss(temperature=TEMPERATURE)(Outputs(student), Outputs(teachers[0]), None)
    assert value.item() == pytest.approx(alone.item(), abs=1e-14)


def test_a_student_that_equals_all_teachers_has_no_loss_and_no_nan():
    student = draw(0, SAMPLES, CLASSES).requires_grad_()
    loss = AeKdLoss()
    value = value_of(loss, student, [student.detach()] * 3)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == pytest.approx(0.0, abs=1e-15)
    assert gradient.abs().max().item() < 1e-15
    assert loss.last_weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_order_of_teachers_does_not_matter_at_any_precision(dtype):
    student, teachers = sides()
    ours, theirs = student.detach().to(dtype), [logits.to(dtype) for logits in teachers]
    loss = AeKdLoss()
    value, weights = value_of(loss, ours, theirs), loss.last_weights
    again = value_of(loss, ours, theirs[::-1])
    assert value.dtype == torch.float32
    assert again.item() == pytest.approx(value.item(), rel=1e-6)
    assert loss.last_weights.flip(0).tolist() == pytest.approx(weights.tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "AeKdLoss: temperature is 0.0; it must be above 0"),
        ({"tolerance": 0.0}, "AeKdLoss: tolerance is 0.0; it must be above 0"),
        ({"tolerance": 1.5}, "AeKdLoss: tolerance is 1.5; it must be at most 1"),
        ({"space": "samples"}, "unknown space of AeKdLoss 'samples'; known: batch_mean, sample"),
    ],
)
def test_settings(settings, said):
    with pytest.raises(BadInput) as error:
        AeKdLoss(**settings)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("teachers", "tolerance", "said"),
    [
        (1, 0.6, "it weighs teachers and there is 1; for one take 'kd'"),
        (3, 0.3, "tolerance: largest weight 0.3 of 3 vectors: their weights sum to 1; expected 1/3"),
    ],
)
def test_tolerances_that_do_not_fit_the_teachers(teachers, tolerance, said):
    networks = [make_network(seed) for seed in range(1, teachers + 1)]
    distiller = make_distiller(teachers=networks, criteria={"ensemble": (AeKdLoss(tolerance=tolerance), 1.0)})
    with pytest.raises(BadInput) as error:
        distiller.prepare(batch_of())
    assert said in str(error.value)
    assert "criterion 'ensemble' (AeKdLoss)" in str(error.value)


def test_classes_that_differ_name_the_loss():
    student, teachers = sides(2)
    with pytest.raises(BadInput, match="AeKdLoss: the student has 3 classes and the teacher 5"):
        value_of(AeKdLoss(), student, [teachers[0], torch.zeros(SAMPLES, 5)])


@pytest.mark.parametrize(("broken", "error"), [("student", RunFailed), ("teacher", BadInput)])
def test_logits_that_are_not_finite_are_told_as_whose_they_are(broken, error):
    student, teachers = make_network(0), [make_network(1), make_network(2)]
    distiller = make_distiller(student, teachers, criteria={"ensemble": (AeKdLoss(), 1.0)})
    distiller.prepare(batch_of())
    network = student if broken == "student" else teachers[1]
    with torch.no_grad():
        network[0].weight.fill_(math.nan)
    with pytest.raises(error, match="the student gave" if broken == "student" else "teacher 2 of 2 gave"):
        distiller.training_step(batch_of())
