"""Validation scores by hand, and where a run may take place."""

import math

import pytest
import torch

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput
from wsi_kd.training.validation import auc, macro_auc, pool_student, ranking_loss, score_validation


def test_auc_counts_pairs_and_halves_ties():
    positive = torch.tensor([True, True, False, False])
    assert auc(torch.tensor([3.0, 1.0, 2.0, 0.0]), positive) == 0.75
    assert auc(torch.zeros(4), positive) == 0.5


def test_macro_auc_of_three_classes():
    labels = torch.tensor([0, 1, 2])
    assert macro_auc(torch.eye(3), labels) == 1.0
    # class 0 is ranked last against the rest, the other two halfway
    probabilities = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    assert macro_auc(probabilities, labels) == 0.0


def test_ranking_loss_by_hand_and_blind_to_a_shift():
    scores, positive = torch.tensor([0.0, math.log(3.0)]), torch.tensor([False, True])
    assert ranking_loss(scores, positive) == pytest.approx(math.log(4 / 3), rel=1e-6)
    assert ranking_loss(scores + 7.0, positive) == pytest.approx(math.log(4 / 3), rel=1e-5)
    assert ranking_loss(-scores, positive) == pytest.approx(math.log(4.0), rel=1e-6)


def test_validation_of_two_bags():
    scores = score_validation(
        torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), torch.tensor([[2.0], [1.0]]), torch.tensor([0, 1])
    )
    assert scores.teacher_loss == pytest.approx((math.log(2.0) + math.log(4 / 3)) / 2, rel=1e-6)
    assert (scores.teacher_auc, scores.student_auc) == (1.0, 0.0)
    alone = score_validation(torch.zeros(2, 2), None, torch.tensor([0, 1]))
    assert (alone.student_loss, alone.student_auc) == (None, None)


def test_the_student_is_scored_by_each_positive_class_against_the_rest():
    students = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [0.0, -math.log(3.0)]])
    scores = score_validation(torch.zeros(3, 3), students, torch.tensor([0, 1, 2]))
    # class 1 is above both others; class 2 below both: log(1 + 1/3) and log(1 + 3) a pair
    assert scores.student_auc == 0.5
    assert scores.student_loss == pytest.approx((math.log(4 / 3) + math.log(4.0)) / 2, rel=1e-6)


def test_student_pooling():
    logits, offsets = torch.tensor([[1.0, 9.0], [5.0, 0.0], [3.0, 1.0], [2.0, -1.0]]), torch.tensor([0, 3, 4])
    largest = pool_student(logits, offsets, student_pooling="max", top_k=2)
    assert largest.tolist() == [[5.0, 9.0], [2.0, -1.0]]
    mean = pool_student(logits, offsets, student_pooling="topk", top_k=2)
    assert mean.tolist() == [[4.0, 5.0], [2.0, -1.0]]


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:x", "cuda:99", ""])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(BadInput, match=r"device"):
        choose_device(name)


def test_auto_takes_the_gpu_where_there_is_one():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert matmul_dtype("auto", torch.device("cpu")) == torch.float32
    assert matmul_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert matmul_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
