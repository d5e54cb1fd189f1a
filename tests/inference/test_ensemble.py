"""Two models' answers put together, by hand."""

import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.ensemble import Spread, combine
from wsi_kd.inference.slide_prediction import SlidePrediction, StudentPrediction


def student(by_max, by_topk, tiles):
    most, top = (np.array([1 - value, value]) for value in (by_max, by_topk))
    return StudentPrediction(by_max=most, by_topk=top, deployed=top, tiles=np.array(tiles)[:, None])


def said(teacher, *, attention=(0.5, 0.5), evidence=(0.2, 0.4), given=None, distance=1.0):
    attention = np.array(attention)
    return SlidePrediction(
        teacher_probability=np.array([1 - teacher, teacher]),
        student=given,
        attention=attention,
        attention_logits=np.log(attention),
        branch_attention=None,
        evidence=np.array(evidence)[:, None],
        feature_distance=distance,
    )


FIRST = said(0.5, attention=(0.25, 0.75), given=student(0.9, 0.5, [0.9, 0.3]), distance=1.0)
SECOND = said(
    0.8, attention=(0.75, 0.25), evidence=(0.6, 0.0), given=student(0.5, 0.7, [0.1, 0.7]), distance=1.5
)


def test_every_probability_is_the_mean_of_the_models():
    mean = combine([FIRST, SECOND]).mean
    assert mean.teacher_probability.tolist() == pytest.approx([0.35, 0.65])
    assert mean.student.by_max.tolist() == pytest.approx([0.3, 0.7])
    assert mean.student.by_topk.tolist() == pytest.approx([0.4, 0.6])
    assert mean.student.deployed.tolist() == pytest.approx([0.4, 0.6])
    assert mean.student.tiles[:, 0].tolist() == pytest.approx([0.5, 0.5])
    assert mean.evidence[:, 0].tolist() == pytest.approx([0.4, 0.2])
    assert mean.feature_distance == 1.25


def test_the_attention_still_sums_to_one_and_its_logits_are_its_logarithm():
    mean = combine([FIRST, FIRST, SECOND]).mean
    assert mean.attention.tolist() == pytest.approx([5 / 12, 7 / 12])
    softmax = np.exp(mean.attention_logits) / np.exp(mean.attention_logits).sum()
    assert softmax.tolist() == pytest.approx(mean.attention.tolist())
    blind = combine([said(0.5, attention=(1.0, 1e-320)), said(0.5, attention=(1.0, 1e-320))]).mean
    assert np.isfinite(blind.attention_logits).all()


def test_the_spread_is_the_sample_deviation_with_both_ends():
    """0.5 and 0.8: mean 0.65, sd sqrt(2 x 0.15^2 / 1) = 0.2121."""
    spread = combine([FIRST, SECOND]).spread
    assert set(spread) == {"teacher", "student", "student_max", "student_topk"}
    assert spread["teacher"] == Spread(pytest.approx(0.15 * 2**0.5), 0.5, 0.8)
    assert spread["student_max"].sd == pytest.approx(0.2 * 2**0.5)
    assert spread["student"] == spread["student_topk"]
    three = combine([said(value) for value in (0.1, 0.2, 0.6)]).spread["teacher"]
    assert three == Spread(pytest.approx((0.14 / 2) ** 0.5), 0.1, 0.6)


def test_models_that_agree_have_no_spread_and_order_does_not_matter():
    assert combine([FIRST, FIRST]).spread["teacher"].sd == 0.0
    one, other = combine([FIRST, SECOND]), combine([SECOND, FIRST])
    assert one.spread == other.spread
    assert np.array_equal(one.mean.attention, other.mean.attention)


def test_of_three_classes_the_spread_is_that_of_any_positive_one():
    """Models that part the positive classes differently agree that the slide is positive."""
    parted = [
        said(0.5)._replace(teacher_probability=np.array(values))
        for values in ([0.2, 0.7, 0.1], [0.2, 0.1, 0.7])
    ]
    together = combine(parted)
    assert together.spread["teacher"] == Spread(
        pytest.approx(0.0, abs=1e-12), pytest.approx(0.8), pytest.approx(0.8)
    )
    assert together.mean.teacher_probability.tolist() == pytest.approx([0.2, 0.4, 0.4])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([FIRST], "at least two models, got 1"),
        ([FIRST, said(0.5)], "have a student all or none"),
    ],
)
def test_what_is_no_ensemble_is_refused(predictions, message):
    with pytest.raises(BadInput, match=message):
        combine(predictions)
