"""What is learned of the teacher: alpha and k by its margin, as scikit-learn's regression has them."""

import math

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.student_label_mixing import (
    class_ranks,
    estimate_alpha,
    estimate_k_margins,
    smallest_k,
    teacher_margin,
    top_k_mask,
)


def test_ranks_break_ties_by_class_and_masks_hold_exactly_k():
    probability = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.1, 0.4]])
    assert class_ranks(probability).tolist() == [[0, 1, 2, 3], [2, 0, 3, 1]]
    mask = top_k_mask(probability, torch.tensor([2, 3]))
    assert mask.tolist() == [[True, True, False, False], [True, True, False, True]]
    assert teacher_margin(probability).tolist() == [0.0, 0.0]


def noisy(seed=0, samples=400):
    """A teacher whose truth is of rank 0 the more often the larger its margin, else 1, seldom later."""
    generator = np.random.default_rng(seed)
    margin = generator.random(samples)
    rank = np.where(
        generator.random(samples) < 0.35 + 0.6 * margin, 0, generator.choice([1, 1, 1, 2, 4], samples)
    )
    return torch.tensor(margin), torch.tensor(rank)


def test_alpha_is_the_isotonic_regression_raised_to_the_bound():
    margin, rank = noisy()
    alpha = estimate_alpha(margin, rank == 0, lower_bound=0.6)
    asked = torch.linspace(-0.5, 1.5, 500, dtype=torch.float64)
    found = alpha(asked)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(margin.numpy(), (rank == 0).numpy().astype(float))
    expected = np.maximum(theirs.predict(asked.numpy()), 0.6)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    assert (found.diff() >= 0.0).all()
    assert (found[0].item(), found[-1].item() > 0.85) == (0.6, True)


@pytest.mark.parametrize("bound", [0.0, -0.5, 1.1, math.nan])
def test_bounds_of_alpha_that_are_no_probability(bound):
    with pytest.raises(BadInput, match="lower bound of alpha"):
        estimate_alpha(torch.tensor([0.5]), torch.tensor([True]), lower_bound=bound)


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
def test_k_is_the_smallest_with_which_the_regression_reaches_the_accuracy(accuracy):
    margin, rank = noisy()
    k_margins = estimate_k_margins(margin, rank, accuracy=accuracy, classes=6)
    asked = torch.linspace(-0.1, 1.1, 400, dtype=torch.float64)
    curves = [
        IsotonicRegression(out_of_bounds="clip").fit(margin.numpy(), (rank < k).numpy().astype(float))
        for k in range(1, 7)
    ]
    reached = np.stack([curve.predict(asked.numpy()) for curve in curves]) >= accuracy - 1e-12
    expected = 1 + reached.argmax(axis=0)
    assert len(k_margins) == 5
    assert len(np.unique(expected)) > 1
    assert smallest_k(asked, k_margins).tolist() == expected.tolist()
    assert (k_margins[1:] <= k_margins[:-1]).all()


def test_a_truth_that_is_never_among_the_likeliest_leaves_all_classes():
    k_margins = estimate_k_margins(torch.tensor([0.2, 0.8]), torch.tensor([3, 3]), accuracy=0.9, classes=4)
    assert k_margins.tolist() == [math.inf] * 3
    assert smallest_k(torch.tensor([0.5]), k_margins).tolist() == [4]


def test_a_perfect_teacher_needs_one_class():
    k_margins = estimate_k_margins(torch.tensor([0.2, 0.8]), torch.tensor([0, 0]), accuracy=1.0, classes=4)
    assert smallest_k(torch.tensor([-1.0, 0.5]), k_margins).tolist() == [1, 1]


@pytest.mark.parametrize("margins", [(0.2, 0.8), (0.15, 0.45)])
def test_a_margin_at_which_the_accuracy_is_just_reached_is_enough(margins):
    """As validation margins are points of the regression; 0.15 + (0.45 - 0.15) is above 0.45 in float64."""
    margin = torch.tensor(margins, dtype=torch.float64)
    k_margins = estimate_k_margins(margin, torch.tensor([1, 0]), accuracy=1.0, classes=3)
    assert smallest_k(margin, k_margins).tolist() == [2, 1]


@pytest.mark.parametrize("accuracy", [0.0, 1.5, math.nan])
def test_accuracies_that_are_no_probability(accuracy):
    with pytest.raises(BadInput, match="accuracy of the k likeliest classes"):
        estimate_k_margins(torch.tensor([0.5]), torch.tensor([0]), accuracy=accuracy, classes=3)
