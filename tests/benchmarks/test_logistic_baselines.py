"""The baselines: on bags whose answer is known."""

import numpy as np
import pytest

from bag_parts import Parts, make_bags
from experiment_scores import Pooling, measure
from gaussian_bags import GaussianProblem, draw_bags
from logistic_baselines import BASELINES, fit_baseline
from wsi_kd.core.errors import BadInput

PROBLEM = GaussianProblem(easy=3.0, hard=3.0, same_axis=True, witness_rate=0.10)


@pytest.fixture(scope="module")
def parts():
    drawn = {name: draw_bags(PROBLEM, seed) for name, seed in (("train", 1), ("val", 2), ("test", 3))}
    return Parts(drawn["train"].bags, drawn["val"].bags, drawn["test"].bags, drawn["test"].hard)


def areas(name, parts, problem=PROBLEM):
    score = fit_baseline(name, parts, problem=problem, pooling=Pooling("max", 5))
    return measure(score(parts.scored), parts.scored, hard=parts.hard)


def test_the_likelihood_ratio_is_the_ceiling_and_the_truth_helps(parts):
    """Shift 3 along one axis: a linear rule is the best one, Phi(3 / sqrt 2) = .983 at instances."""
    found = {name: areas(name, parts) for name in BASELINES}
    names = ("likelihood_ratio", "supervised_logistic", "instance_logistic")
    ceiling, supervised, weak = (found[name]["auc_student"] for name in names)
    assert ceiling == pytest.approx(0.983, abs=0.006)
    assert ceiling >= supervised > ceiling - 0.01
    assert ceiling - 0.03 < weak < supervised
    assert found["instance_logistic"]["bag_deployed"] == found["instance_logistic"]["bag_student_max"]
    assert found["bag_mean_logistic"]["bag_deployed"] == found["bag_mean_logistic"]["bag_teacher"] > 0.8


def test_the_mean_of_a_bag_is_what_the_bag_baseline_sees():
    """Bags of the same mean look alike to it, however their instances differ."""
    values = np.array([[1.0], [-1.0], [0.0], [0.0], [3.0], [3.0], [-3.0], [-3.0]], np.float32)
    bags = make_bags(values, sizes=[2] * 4, labels=np.array([1, 0, 1, 0]), tile_labels=np.zeros(8, np.int8))
    scores = fit_baseline(
        "bag_mean_logistic", Parts(bags, bags, bags, None), problem=None, pooling=Pooling("topk", 1)
    )(bags)
    first, second, third, last = scores.bags["teacher"]
    assert first == pytest.approx(second)
    assert third > first > last


def test_what_a_baseline_needs_and_lacks_is_told(parts):
    unknown = parts.train._replace(tile_labels=np.full(len(parts.train.tile_labels), -1, np.int8))
    with pytest.raises(BadInput, match="supervised_logistic needs the truth of instances"):
        fit_baseline(
            "supervised_logistic", parts._replace(train=unknown), problem=None, pooling=Pooling("topk", 1)
        )
    with pytest.raises(BadInput, match="likelihood_ratio knows Gaussian bags only"):
        fit_baseline("likelihood_ratio", parts, problem=None, pooling=Pooling("topk", 1))
    with pytest.raises(BadInput, match="unknown baseline 'logistic'"):
        fit_baseline("logistic", parts, problem=None, pooling=Pooling("topk", 1))
