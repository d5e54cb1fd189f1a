"""Changes of logits worked by hand, the limits to the last digit, and logits that are the model's own."""

import numpy as np
import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.logit_gate import Encoded, LogitChange, SlideChange, judge, logit_changes
from wsi_kd.inference.predict import predict_bag, slide_logits
from wsi_kd.inference.slide_prediction import SlideLogits
from wsi_kd.mil.registry import create_model

CLASSES = ("benign", "low", "high")


def change_of(found, *, exact=1.0, rounded=1.0, stored=1.0):
    return LogitChange("weno/seed0/fold0", "teacher", "tumor", exact, found, rounded, stored)


def slide_of(slide_id, *changes, cosine=1.0, stored=1.0):
    return SlideChange(slide_id, 5, cosine, (cosine + 1) / 2, stored, changes)


def logits_of(*teacher, student=None):
    return SlideLogits(np.array(teacher), None if student is None else np.array(student))


def test_every_change_is_against_float32():
    one = change_of(1.25, exact=1.0, rounded=0.875, stored=1.5)
    assert (one.change, one.rounding_change, one.stored_change) == (0.25, 0.125, 0.5)


def test_a_model_of_three_classes_has_three_logits_of_the_teacher_and_two_of_the_student():
    ways = Encoded(
        exact=logits_of(0.0, 1.0, 2.0, student=(3.0, 4.0)),
        found=logits_of(0.5, 1.0, 1.0, student=(3.0, 3.75)),
        rounded=logits_of(0.0, 1.0, 2.0, student=(3.0, 4.0)),
        stored=logits_of(0.0, 1.0, 2.0, student=(3.0, 4.5)),
    )
    found = list(logit_changes("m", ways, classes=CLASSES))
    assert [(one.score, one.label, one.change) for one in found] == [
        ("teacher", "benign", 0.5),
        ("teacher", "low", 0.0),
        ("teacher", "high", 1.0),
        ("student", "low", 0.0),
        ("student", "high", 0.25),
    ]
    assert found[-1] == LogitChange("m", "student", "high", 4.0, 3.75, 4.0, 4.5)


def test_a_model_without_student_has_the_teachers_logits_alone():
    ways = Encoded(*(logits_of(0.0, float(way)) for way in range(4)))
    assert [one[1:] for one in logit_changes("m", ways, classes=("normal", "tumor"))] == [
        ("teacher", "normal", 0.0, 0.0, 0.0, 0.0),
        ("teacher", "tumor", 0.0, 1.0, 2.0, 3.0),
    ]


@pytest.mark.parametrize(
    ("slide", "told"),
    [
        (slide_of("s", change_of(0.01, exact=0.0), cosine=0.999, stored=0.999), ""),
        (slide_of("s", change_of(-0.01, exact=0.0)), ""),
        (slide_of("s", change_of(0.0100001, exact=0.0)), "is 0.0100, in float32 0.0000: a change of 0.0100"),
        (slide_of("s", change_of(1.0), cosine=0.9989), "cosine of 0.9989 with those in float32"),
        (slide_of("s", change_of(float("nan"))), "a change of nan"),
        (slide_of("s", change_of(1.0), stored=0.5), "its feature file does not hold what the encoder gives"),
        (slide_of("s", change_of(1.0), stored=None), ""),
    ],
)
def test_the_limits_themselves_are_allowed(slide, told):
    verdict = judge([slide])
    assert (told in verdict.fault) if told else verdict.fault == ""
    assert verdict.is_of_file == ("feature file" in told)


def test_the_worst_slide_is_named_and_the_largest_of_each_is_told():
    slides = [
        slide_of("first", change_of(1.002, rounded=1.001), change_of(0.98), cosine=0.9995, stored=None),
        slide_of("second", change_of(1.0, stored=1.125), change_of(1.03), cosine=0.9997, stored=0.9999),
    ]
    verdict = judge(slides)
    assert verdict.fault.startswith("second: weno/seed0/fold0, the teacher's logit of 'tumor' is 1.0300")
    assert verdict.least_cosine == 0.9995
    assert verdict.largest_change == pytest.approx(0.03)
    assert verdict.largest_rounding_change == pytest.approx(0.001)
    assert verdict.largest_stored_change == 0.125
    assert verdict.least_stored_cosine == 0.9999


def test_the_precision_goes_before_the_file():
    verdict = judge([slide_of("s", change_of(2.0), stored=0.1)])
    assert not verdict.is_of_file
    assert "a change of 1.0000" in verdict.fault


def model_of(*, with_student=True, classes=3):
    torch.manual_seed(0)
    return create_model(
        "gated_abmil",
        feature_dim=6,
        classes=classes,
        hidden_dim=16,
        attention_dim=8,
        dropout=0.5,
        student_hidden_dim=0,
        with_student=with_student,
    )


FEATURES = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)


@pytest.mark.parametrize(("pooling", "top_k", "kept"), [("max", 4, 1), ("topk", 4, 4), ("topk", 99, 9)])
def test_logits_are_the_models_own_pooled_as_deployed(pooling, top_k, kept):
    model = model_of()
    found = slide_logits(model, FEATURES, student_pooling=pooling, top_k=top_k, device="cpu")
    model.eval()
    with torch.no_grad():
        output = model(torch.from_numpy(FEATURES), torch.tensor([0, 9]))
    assert found.teacher == pytest.approx(output.bag_logits[0].numpy(), abs=1e-6)
    expected = output.instance_logits.topk(kept, dim=0).values.mean(dim=0)
    assert found.student == pytest.approx(expected.numpy(), abs=1e-6)
    prediction = predict_bag(model, FEATURES, student_pooling=pooling, top_k=top_k, device="cpu")
    softmax = torch.from_numpy(np.concatenate([[0.0], found.student])).softmax(0)
    assert prediction.student.deployed == pytest.approx(softmax.numpy(), abs=1e-12)


def test_what_cannot_be_scored_has_no_logits():
    model = model_of(with_student=False, classes=2)
    asked = {"student_pooling": "topk", "top_k": 3, "device": "cpu"}
    assert slide_logits(model, FEATURES, **asked).student is None
    for features, told in ((FEATURES[:0], "without tiles"), (FEATURES * np.nan, "NaN")):
        with pytest.raises(BadInput, match=told):
            slide_logits(model, features, **asked)
    with pytest.raises(BadInput, match="unknown student_pooling 'mean'"):
        slide_logits(model, FEATURES, **{**asked, "student_pooling": "mean"})
