"""Isotonic regression against scikit-learn's and against values by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.isotonic import RisingCurve, fit_rising


def drawn(seed, samples, *, places):
    """Points of which several share a place when there are few `places`; values 0 or 1, rising on average."""
    generator = np.random.default_rng(seed)
    where = generator.integers(0, places, samples) / places
    return where, (generator.random(samples) < 0.2 + 0.6 * where).astype(float)


@pytest.mark.parametrize("places", [1, 2, 7, 40, 10**9])
@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn_with_ties_between_points_and_outside(seed, places):
    where, values = drawn(seed, 60, places=places)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(where, values)
    ours = fit_rising(torch.tensor(where), torch.tensor(values))

    asked = np.concatenate([where, np.linspace(-0.5, 1.5, 301)])
    np.testing.assert_allclose(ours(torch.tensor(asked)).numpy(), theirs.predict(asked), rtol=0, atol=1e-12)
    assert (ours.values.diff() >= 0).all()
    assert (ours.at.diff() > 0).all()


def test_equals_scikit_learn_on_other_numbers_than_0_and_1():
    generator = np.random.default_rng(5)
    where, values = generator.normal(size=200), generator.normal(size=200)
    values += where
    theirs = IsotonicRegression(out_of_bounds="clip").fit(where, values)
    ours = fit_rising(torch.tensor(where), torch.tensor(values))
    np.testing.assert_allclose(ours(torch.tensor(where)).numpy(), theirs.predict(where), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "fitted"),
    [
        ([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]),
        ([4.0, 3.0, 2.0, 1.0], [2.5, 2.5, 2.5, 2.5]),
        ([1.0, 3.0, 2.0, 4.0], [1.0, 2.5, 2.5, 4.0]),
        ([3.0, 1.0, 1.0, 4.0], [5 / 3, 5 / 3, 5 / 3, 4.0]),
        ([1.0, 2.0, 0.0, 3.0], [1.0, 1.0, 1.0, 3.0]),
    ],
)
def test_by_hand(values, fitted):
    where = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert fit_rising(where, torch.tensor(values))(where.double()).tolist() == pytest.approx(fitted)


def test_the_order_of_points_does_not_matter():
    where, values = (torch.tensor(array) for array in drawn(1, 50, places=20))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    ours, shuffled = fit_rising(where, values), fit_rising(where[order], values[order])
    assert torch.equal(ours.at, shuffled.at)
    torch.testing.assert_close(ours.values, shuffled.values, rtol=0, atol=1e-15)


def test_equal_places_count_as_their_mean():
    curve = fit_rising(torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    asked = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64)
    assert curve(asked).tolist() == pytest.approx([1 / 3, 2 / 3, 1])


def test_one_point_is_a_constant():
    curve = fit_rising(torch.tensor([0.3]), torch.tensor([0.7]))
    assert curve(torch.tensor([-1.0, 0.3, 9.0], dtype=torch.float64)).tolist() == pytest.approx([0.7] * 3)


@pytest.mark.parametrize(
    ("level", "place"),
    [(-1.0, -math.inf), (0.2, -math.inf), (0.3, 0.5), (0.4, 1.0), (0.45, 2.25), (0.6, 3.0), (0.61, math.inf)],
)
def test_where_a_level_is_reached(level, place):
    points = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    curve = RisingCurve(points, torch.tensor([0.2, 0.4, 0.4, 0.6, 0.6], dtype=torch.float64))
    assert curve.reached(level) == pytest.approx(place)
    assert curve._replace(floor=0.3).reached(level) == pytest.approx(-math.inf if level <= 0.3 else place)
    if math.isfinite(place):
        around = torch.tensor([place - 1e-6, place + 1e-6], dtype=torch.float64)
        assert (curve(around) >= level).tolist() == [False, True]


def test_repeated_last_points_change_nothing():
    curve = fit_rising(*(torch.tensor(array) for array in drawn(2, 30, places=30)))
    padded = RisingCurve(*(torch.cat([part, part[-1:].expand(5)]) for part in (curve.at, curve.values)))
    asked = torch.linspace(-1, 2, 100, dtype=torch.float64)
    torch.testing.assert_close(padded(asked), curve(asked), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("where", "values"), [([], []), ([1.0, math.nan], [0.0, 1.0]), ([1.0, 2.0], [0.0, math.inf])]
)
def test_points_that_are_none(where, values):
    with pytest.raises(BadInput, match="expected at least 1, all finite"):
        fit_rising(torch.tensor(where), torch.tensor(values))


def test_a_floor_raises_the_curve_and_not_its_points_only():
    points = torch.tensor([0.0, 1.0], dtype=torch.float64)
    curve = RisingCurve(points, points, floor=0.5)
    assert curve(torch.tensor([0.0, 0.4, 0.6, 1.0], dtype=torch.float64)).tolist() == [0.5, 0.5, 0.6, 1.0]
