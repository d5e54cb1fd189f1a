import numpy as np
import pytest

from wsi_kd.bags.splits import Fold
from wsi_kd.evaluation.baselines import SlideVectors, baseline_scores, fit_logistic
from wsi_kd.evaluation.classification import choose_threshold


def _slides(count: int = 60, *, gap: float = 6.0, classes: int = 2):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    vectors = generator.normal(size=(count, 4))
    vectors[np.arange(count), labels] += gap
    vectors[:, 3] *= 1000.0  # standardization must keep this column from drowning the others
    ids = tuple(f"s{index}" for index in range(count))
    return SlideVectors(ids, ids, labels, vectors)


def _fold(slides: SlideVectors) -> Fold:
    ids = slides.slide_ids
    return Fold(train=ids[:36], val=ids[36:48], test=ids[48:])


def test_separable_classes_are_separated_on_the_test_part_alone():
    slides = _slides()
    (scores,) = baseline_scores(slides, [_fold(slides)], classes=2)
    assert scores.case_ids == slides.slide_ids[48:]
    assert np.array_equal(scores.calls, scores.labels == 1)
    assert scores.class_probabilities is None


def test_probabilities_do_not_change_with_the_units_of_a_column():
    slides = _slides()
    train = slides.select(slides.slide_ids[:36])
    wanted = slides.vectors[36:]
    scale = np.array([1.0, 1e-3, 50.0, 7.0])
    scaled = fit_logistic(train._replace(vectors=train.vectors * scale), wanted * scale, classes=2)
    assert np.allclose(fit_logistic(train, wanted, classes=2), scaled, atol=1e-6)


def test_a_class_absent_from_training_gets_zero():
    slides = _slides(classes=3)
    known = [slide_id for slide_id, label in zip(slides.slide_ids, slides.labels, strict=True) if label != 1]
    probabilities = fit_logistic(slides.select(known), slides.vectors[:5], classes=3)
    assert (probabilities[:, 1] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(5))


def test_three_classes_keep_their_probabilities():
    slides = _slides(classes=3)
    (scores,) = baseline_scores(slides, [_fold(slides)], classes=3)
    assert np.array_equal(scores.class_probabilities.argmax(axis=1), scores.labels)
    assert scores.scores == pytest.approx(1 - scores.class_probabilities[:, 0])


def test_each_part_does_its_own_work_alone():
    slides = _slides(gap=1.0)
    fold = _fold(slides)
    (scores,) = baseline_scores(slides, [fold], classes=2)
    train, val, test = (slides.select(part) for part in fold)
    val_scores = fit_logistic(train, val.vectors, classes=2)[:, 1]
    expected = choose_threshold(val.labels > 0, val_scores, rule="youden", min_sensitivity=1.0)
    assert scores.threshold == expected
    assert np.array_equal(scores.scores, fit_logistic(train, test.vectors, classes=2)[:, 1])
    turned = slides.labels.copy()
    turned[48:] = 1 - turned[48:]
    (other,) = baseline_scores(slides._replace(labels=turned), [fold], classes=2)
    assert other.threshold == expected
    assert np.array_equal(other.scores, scores.scores)
