import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from wsi_kd.evaluation.classification import average_precision, choose_threshold, roc_auc
from wsi_kd.evaluation.empirical_curves import curve_areas, roc_points


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_areas_and_corners_equal_scikit_learns(pairs):
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score / 4 for _, score in pairs])
    if labels.all() or not labels.any():
        for curve in (curve_areas, roc_points):
            with pytest.raises(ValueError, match="needs both labels"):
                curve(labels, scores)
        return
    found = curve_areas(labels, scores)
    assert found.roc_auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    for ours, theirs in zip(
        roc_points(labels, scores), roc_curve(labels, scores, drop_intermediate=False), strict=True
    ):
        assert ours.tolist() == theirs.tolist()


def test_labels_of_any_integers_measure_as_booleans_do():
    labels, scores = np.array([2, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.1], dtype=np.float32)
    assert roc_auc(labels, scores).value == 3 / 4
    assert average_precision(labels, scores).value == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    labels, scores = np.array([0, 1, 1]), np.array([0.1, value, 0.3])
    for measure in (roc_auc, average_precision):
        with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
            measure(labels, scores)
    with pytest.raises(ValueError, match="not finite"):
        choose_threshold(labels, scores, rule="youden", min_sensitivity=0.5)
