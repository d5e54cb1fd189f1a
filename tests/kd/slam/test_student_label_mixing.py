"""Student-label mixing: limits, the truth at the minimum, the bound below which it teaches the opposite."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.student_label_mixing import (
    mixed_cross_entropy,
    require_bound,
    student_label_mix,
    top_k_mask,
)

BOTH = pytest.mark.parametrize("normalize", [True, False])


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(samples=5, classes=6):
    """The student's logits, the teacher's probabilities and an alpha above 1/2."""
    alpha = 0.55 + 0.4 * torch.rand(samples, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return draw(0, samples, classes), draw(1, samples, classes).softmax(dim=1), alpha


def masked(teacher, k):
    return top_k_mask(teacher, torch.full((len(teacher),), k))


@BOTH
@pytest.mark.parametrize("k", [1, 2, 6])
def test_a_teacher_that_is_always_right_is_taught_by_cross_entropy(normalize, k):
    student, teacher, alpha = parts()
    found = mixed_cross_entropy(
        student, teacher, alpha=torch.ones_like(alpha), mask=masked(teacher, k), normalize=normalize
    )
    assert found.item() == pytest.approx(F.cross_entropy(student, teacher).item(), abs=1e-14)


@BOTH
def test_of_one_class_nothing_is_mixed_in_whatever_alpha(normalize):
    student, teacher, alpha = parts()
    mask = masked(teacher, 1)
    probability = student.softmax(dim=1)
    mixed = student_label_mix(probability, alpha=alpha, mask=mask, normalize=normalize)
    assert torch.equal(mixed, probability)
    found = mixed_cross_entropy(student, teacher, alpha=alpha, mask=mask, normalize=normalize)
    assert found.item() == pytest.approx(F.cross_entropy(student, teacher).item(), abs=1e-14)


def test_of_all_classes_it_is_the_forward_correction():
    student, teacher, alpha = parts()
    classes = student.shape[1]
    probability = student.softmax(dim=1)
    off = (1.0 - alpha[:, None, None]) / (classes - 1)
    identity = torch.eye(classes, dtype=torch.float64)
    transition = alpha[:, None, None] * identity + off * (1.0 - identity)
    found = student_label_mix(probability, alpha=alpha, mask=masked(teacher, classes), normalize=True)
    torch.testing.assert_close(found, torch.einsum("sjk,sk->sj", transition, probability), rtol=0, atol=1e-15)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-15)


@BOTH
def test_of_two_classes_both_forms_are_the_binary_one(normalize):
    student, teacher, alpha = parts(classes=2)
    probability = student.softmax(dim=1)
    found = student_label_mix(probability, alpha=alpha, mask=masked(teacher, 2), normalize=normalize)
    expected = alpha[:, None] * probability + (1.0 - alpha[:, None]) * (1.0 - probability)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


@BOTH
@pytest.mark.parametrize("k", [2, 4, 6])
def test_a_mix_of_probabilities_is_within_0_and_1(normalize, k):
    corners = torch.cat([torch.eye(6, dtype=torch.float64), draw(3, 50, 6).mul(8.0).softmax(dim=1)])
    teacher = draw(4, len(corners), 6).softmax(dim=1)
    for share in (0.0, 0.3, 0.5, 0.99, 1.0):
        alpha = torch.full((len(corners),), share, dtype=torch.float64)
        mixed = student_label_mix(corners, alpha=alpha, mask=masked(teacher, k), normalize=normalize)
        assert 0.0 <= mixed.min().item() <= mixed.max().item() <= 1.0


@BOTH
def test_values_by_hand(normalize):
    probability = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True]])
    found = student_label_mix(
        probability, alpha=torch.tensor([0.8], dtype=torch.float64), mask=mask, normalize=normalize
    )
    others = 0.1 if normalize else 0.2
    expected = [0.4 + others * 0.5, 0.24 + others * 0.7, 0.16 + others * 0.8]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-15)
    loss = mixed_cross_entropy(
        probability.log(),
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64),
        alpha=torch.tensor([0.8], dtype=torch.float64),
        mask=mask,
        normalize=normalize,
    )
    assert loss.item() == pytest.approx(-math.log(expected[1]), abs=1e-15)


@BOTH
@pytest.mark.parametrize("k", [2, 3, 6])
def test_the_loss_is_the_cross_entropy_of_the_mix(normalize, k):
    student, teacher, alpha = parts()
    mask = masked(teacher, k)
    mixed = student_label_mix(student.softmax(dim=1), alpha=alpha, mask=mask, normalize=normalize)
    found = mixed_cross_entropy(student, teacher, alpha=alpha, mask=mask, normalize=normalize)
    assert found.item() == pytest.approx(-(teacher * mixed.log()).sum(dim=1).mean().item(), abs=1e-14)
    assert torch.autograd.gradcheck(
        lambda logits: mixed_cross_entropy(logits, teacher, alpha=alpha, mask=mask, normalize=normalize),
        student.requires_grad_(),
    )


def slope(alpha, k, *, normalize):
    """Of the loss in the logit of the class that the teacher is sure of; below 0, the student learns it."""
    student = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.96, 0.01, 0.01, 0.01, 0.01]], dtype=torch.float64)
    loss = mixed_cross_entropy(
        student,
        F.one_hot(torch.tensor([0]), 5).double(),
        alpha=torch.tensor([alpha], dtype=torch.float64),
        mask=masked(teacher, k),
        normalize=normalize,
    )
    return torch.autograd.grad(loss, student)[0][0, 0].item()


@pytest.mark.parametrize(
    ("k", "normalize"), [(2, False), (3, False), (5, False), (2, True), (3, True), (5, True)]
)
def test_the_gradient_turns_at_the_bound(k, normalize):
    bound = 1.0 / k if normalize else 0.5
    assert slope(bound + 0.05, k, normalize=normalize) < -1e-3
    assert slope(bound, k, normalize=normalize) == pytest.approx(0.0, abs=1e-15)
    assert slope(bound - 0.05, k, normalize=normalize) > 1e-3


@pytest.mark.parametrize(
    ("bound", "k", "normalize"),
    [
        (0.5, 3, False),
        (0.5, None, True),
        (0.5, 2, True),
        (0.2, 5, True),
        (1.01, 5, True),
        (0.0, 1, True),
        (math.nan, 2, False),
    ],
)
def test_bounds_that_teach_nothing_or_the_opposite_are_refused(bound, k, normalize):
    if k == 1:
        with pytest.raises(BadInput, match="expected above"):
            require_bound(bound, k=k, normalize=normalize)
        return
    with pytest.raises(BadInput, match="below it the loss teaches the opposite of the truth") as error:
        require_bound(bound, k=k, normalize=normalize)
    assert f"expected above 1/{k if normalize and k else 2} and at most 1" in str(error.value)


@pytest.mark.parametrize(
    ("bound", "k", "normalize"),
    [(0.501, 3, False), (0.501, None, True), (0.21, 5, True), (1.0, 5, False), (0.1, 1, False)],
)
def test_bounds_that_teach(bound, k, normalize):
    require_bound(bound, k=k, normalize=normalize)


def expected_loss(logits, *, truth, mask, alpha, normalize):
    """Over a noisy teacher: the truth with alpha, each other class of the mask alike else."""
    others = mask[0].clone()
    others[truth] = False
    said = others.double() * (1.0 - alpha) / others.sum()
    said[truth] = alpha
    return mixed_cross_entropy(
        logits, said[None], alpha=torch.tensor([alpha], dtype=torch.float64), mask=mask, normalize=normalize
    )


@BOTH
def test_the_minimum_is_the_truth_and_not_the_teacher(normalize):
    """6 classes, k 3, alpha .7: cross entropy alone would end at (.7, .15, .15)."""
    mask = torch.tensor([[True, True, True, False, False, False]])
    logits = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        loss = expected_loss(logits, truth=0, mask=mask, alpha=0.7, normalize=normalize)
        loss.backward()
        return loss

    optimizer.step(step)
    least = step().item()
    assert logits.softmax(dim=1)[0, 0].item() > 0.999
    entropy = -(0.7 * math.log(0.7) + 2 * 0.15 * math.log(0.15))
    assert entropy == pytest.approx(0.8188, abs=1e-4)
    assert least == pytest.approx(entropy if normalize else 0.6109, abs=2e-3)


@BOTH
def test_the_order_of_samples_does_not_matter(normalize):
    student, teacher, alpha = parts()
    mask, order = masked(teacher, 3), torch.tensor([3, 0, 4, 2, 1])
    before = mixed_cross_entropy(student, teacher, alpha=alpha, mask=mask, normalize=normalize)
    after = mixed_cross_entropy(
        student[order], teacher[order], alpha=alpha[order], mask=mask[order], normalize=normalize
    )
    assert after.item() == pytest.approx(before.item(), abs=1e-15)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_nan_where_the_student_is_sure(normalize, dtype):
    """Logits of +-1000: probabilities of exactly 0 and 1, in and outside of the mask."""
    signs = torch.tensor(list(itertools.product([-1000.0, 1000.0], repeat=3)), dtype=dtype)
    for alpha, k in itertools.product((0.6, 1.0), (1, 2, 3)):
        student = signs.clone().requires_grad_()
        for truth in range(3):
            teacher = F.one_hot(torch.full((8,), truth), 3).to(dtype)
            loss = mixed_cross_entropy(
                student,
                teacher,
                alpha=torch.full((8,), alpha, dtype=dtype),
                mask=masked(teacher, k),
                normalize=normalize,
            )
            (gradient,) = torch.autograd.grad(loss, student)
            assert loss.isfinite()
            assert gradient.isfinite().all()
