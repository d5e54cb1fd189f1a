"""Losses of two models on the same bags: calibration by hand, pairs, and one bag scored as in a batch."""

import math

import numpy as np
import pytest
import torch

from wsi_kd.mil.registry import create_model
from wsi_kd.training.comparison import PairedDifference, bag_losses, calibrate, paired_difference
from wsi_kd.training.losses import teacher_losses


def model_of(parts, *, with_student):
    torch.manual_seed(0)
    return create_model(
        "gated_abmil",
        feature_dim=parts[0].features.shape[1],
        classes=2,
        hidden_dim=8,
        attention_dim=4,
        dropout=0.5,
        student_hidden_dim=0,
        with_student=with_student,
    ).eval()


def test_every_bag_is_scored_as_in_one_batch(small_parts):
    val = small_parts[1]
    model = model_of(small_parts, with_student=True)
    losses = bag_losses(model, val, student_pooling="max", top_k=3)
    output = model(torch.from_numpy(val.features), torch.from_numpy(val.offsets))
    expected = teacher_losses(output.bag_logits.double(), torch.from_numpy(val.labels))
    torch.testing.assert_close(losses.teacher, expected.detach(), atol=1e-6, rtol=1e-5)
    assert losses.student.shape == (12,)
    assert (
        bag_losses(model_of(small_parts, with_student=False), val, student_pooling="max", top_k=3).student
        is None
    )


def test_calibration_finds_the_log_odds_of_repeated_scores():
    """Two values of the score with 3 of 4 and 1 of 4 positive: the best logits are +-log 3, weakly held."""
    scores = torch.tensor([5.0] * 400 + [1.0] * 400, dtype=torch.float64)[:, None]
    labels = torch.tensor(([1, 1, 1, 0] * 100) + ([1, 0, 0, 0] * 100))
    logits = calibrate(scores, labels)
    assert logits[:, 0].abs().max() == 0.0
    assert logits[0, 1].item() == pytest.approx(math.log(3.0), abs=1e-3)
    assert logits[-1, 1].item() == pytest.approx(-math.log(3.0), abs=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_calibration_sees_neither_scale_nor_shift(scale):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (40,), generator=generator)
    plain = teacher_losses(calibrate(scores, labels), labels).mean()
    assert plain < math.log(3.0)
    changed = teacher_losses(calibrate(scale * scores - 7.0, labels), labels).mean()
    torch.testing.assert_close(changed, plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scores", [[3.0, 2.0, -1.0, -2.0], [1.0, 1.0, 1.0, 1.0]])
def test_separable_and_constant_scores_stay_finite(scores):
    labels = torch.tensor([1, 1, 0, 0])
    logits = calibrate(torch.tensor(scores, dtype=torch.float64)[:, None], labels)
    assert logits.isfinite().all()
    expected = 0.2 if len(set(scores)) > 1 else math.log(2.0) + 1e-6
    assert teacher_losses(logits, labels).mean() < expected


def test_paired_differences_by_hand():
    first = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    found = paired_difference(first, torch.zeros(3, dtype=torch.float64))
    assert found.mean == pytest.approx(3.0)
    assert found.standard_error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))
    assert found.exceeds(1.0)
    assert not found.exceeds(3.0)
    same = paired_difference(first, first)
    assert same == PairedDifference(0.0, 0.0)
    assert not same.exceeds(0.0)
