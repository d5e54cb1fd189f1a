"""The Gaussian bags: the published draws, and the likelihood ratio that nothing beats."""

import runpy

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gaussian_bags import GaussianProblem, draw_bags, log_likelihood_ratio

PROBLEMS = {
    "two_types": GaussianProblem(easy=4.0, hard=2.5, same_axis=False, witness_rate=0.10),
    "single": GaussianProblem(easy=3.0, hard=3.0, same_axis=True, witness_rate=0.10),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("rate", [0.10, 0.05])
@pytest.mark.parametrize("name", PROBLEMS)
def test_draws_are_those_of_the_published_figures(shared_reference, name, rate):
    reference = runpy.run_path(str(shared_reference / "gaussian_bags.py"), run_name="reference")
    problem = PROBLEMS[name]._replace(witness_rate=rate)
    for seed in (1003, 2000, 3001):
        features, labels, bag_labels, hard = reference["make"](name, seed, rate)
        drawn = draw_bags(problem, seed)
        np.testing.assert_array_equal(drawn.bags.features, features.reshape(-1, 64))
        np.testing.assert_array_equal(drawn.bags.tile_labels, labels.reshape(-1))
        np.testing.assert_array_equal(drawn.bags.labels, bag_labels)
        np.testing.assert_array_equal(drawn.hard, hard.reshape(-1))
    ours = log_likelihood_ratio(problem, drawn.bags.features)
    theirs = reference["log_likelihood_ratio"](name, features.reshape(-1, 64))
    np.testing.assert_allclose(np.argsort(ours[:500]), np.argsort(theirs[:500]))


def test_the_likelihood_ratio_reaches_the_ceiling_that_the_axis_sets():
    """One kind of witness, shifted by d: AUC = Phi(d / sqrt 2), 0.9831 at d = 3."""
    drawn = draw_bags(PROBLEMS["single"], 3000)
    ratio = log_likelihood_ratio(PROBLEMS["single"], drawn.bags.features)
    assert roc_auc_score(drawn.bags.tile_labels, ratio) == pytest.approx(0.9831, abs=0.006)


def test_witnesses_are_counted_and_hard_ones_are_the_smaller_half():
    drawn = draw_bags(PROBLEMS["two_types"]._replace(witness_rate=0.05), 7)
    truth = drawn.bags.tile_labels.reshape(200, 100)
    assert truth.sum(axis=1).tolist() == [5] * 100 + [0] * 100
    assert drawn.hard.reshape(200, 100).sum(axis=1).tolist() == [2] * 100 + [0] * 100
    assert not (drawn.hard & (drawn.bags.tile_labels == 0)).any()
