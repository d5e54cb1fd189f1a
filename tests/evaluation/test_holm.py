"""Holm's correction against hand-worked values and its bounds."""

import numpy as np
import pytest

from wsi_kd.evaluation.holm import holm


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # ascending .005 .01 .03 .04: 4 x .005, 3 x .01, 2 x .03, and 1 x .04 is raised to the .06 before it
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # ascending .01 .02 .03: 3 x .01 = .03, 2 x .02 = .04, and 1 x .03 is raised to .04
        ([0.03, 0.01, 0.02], [0.04, 0.03, 0.04]),
        ([0.05], [0.05]),
        ([0.4, 0.6], [0.8, 0.8]),
        ([0.6, 0.7, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([], []),
        ([None, None], [None, None]),
        # a test that was not made does not count: 2 x .01 and not 3 x .01
        ([None, 0.01, 0.5], [None, 0.02, 0.5]),
    ],
)
def test_hand_worked_families(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, abs=1e-15)


def test_order_does_not_matter_and_nothing_gets_smaller():
    generator = np.random.default_rng(0)
    p_values = generator.random(20) ** 3
    adjusted = holm(p_values.tolist())
    shuffled = generator.permutation(20)
    assert holm(p_values[shuffled].tolist()) == [adjusted[index] for index in shuffled]
    assert all(new >= old for new, old in zip(adjusted, p_values, strict=True))
    assert max(adjusted) <= 1.0
    assert [adjusted[index] for index in np.argsort(p_values)] == sorted(adjusted)


def test_rejections_are_those_of_the_step_down_procedure():
    """Reject p_(i) while p_(i) <= alpha / (m - i + 1), stop at the first that is larger."""
    generator = np.random.default_rng(1)
    for _ in range(50):
        p_values = (generator.random(8) ** 4).tolist()
        rejected, alive = set(), True
        for rank, index in enumerate(np.argsort(p_values)):
            alive = alive and p_values[index] <= 0.05 / (8 - rank)
            rejected |= {int(index)} if alive else set()
        assert {index for index, value in enumerate(holm(p_values)) if value <= 0.05} == rejected


@pytest.mark.parametrize("strange", [-0.1, 1.1, float("nan")])
def test_no_p_value(strange):
    with pytest.raises(ValueError, match="is no p-value"):
        holm([0.5, strange])
