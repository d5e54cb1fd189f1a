"""Distances by a covariance of few axes: by hand, against the full inverse, and what it is there for."""

import pytest
import torch

from wsi_kd.mil.feature_spread import AXES, SHRINKAGE, FeatureSpread


def drawn(count, width, seed=0):
    """Instances whose features move together: a tenth of the directions carry most of the variance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(max(1, width // 10), width, generator=generator)
    shared = torch.randn(count, len(mixing), generator=generator) @ mixing
    values = shared + 0.3 * torch.randn(count, width, generator=generator)
    return values / values.std(dim=0)


def fitted(rows):
    spread = FeatureSpread(rows.shape[1])
    spread.fit((rows.T @ rows).double() / len(rows))
    return spread


def test_before_it_is_fitted_it_is_the_root_mean_square():
    distances = FeatureSpread(4)(torch.tensor([[1.0, 1, 1, 1], [2.0, 0, 0, 0], [0.0, 0, 0, 0]]))
    assert distances.tolist() == [1.0, 1.0, 0.0]


def test_two_features_by_hand():
    """Second moments [[1, 0.8], [0.8, 1]]: axes (1, 1)/sqrt 2 of variance 1.8 and (1, -1)/sqrt 2 of 0.2."""
    spread = FeatureSpread(2)
    spread.fit(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64))
    along, across = 0.99 * 1.8 + 0.01, 0.99 * 0.2 + 0.01
    found = spread(torch.tensor([[1.0, 1.0], [1.0, -1.0], [0.0, 1.0]]))
    expected = [1 / along, 1 / across, (0.5 / along + 0.5 / across) / 2]
    assert found.square().tolist() == pytest.approx(expected, rel=1e-5)


def test_up_to_as_many_features_as_axes_it_is_the_full_inverse():
    rows = drawn(500, AXES)
    moments = (rows.T @ rows).double() / len(rows)
    shrunk = (1 - SHRINKAGE) * moments + SHRINKAGE * moments.diagonal().mean() * torch.eye(AXES)
    expected = ((rows.double() @ torch.linalg.inv(shrunk)) * rows).sum(dim=1).div(AXES).sqrt()
    torch.testing.assert_close(fitted(rows)(rows), expected.float(), rtol=1e-3, atol=1e-4)


def test_the_rest_shares_its_mean_variance():
    """Variances 100 to 1, each feature its own axis: the last 36 count as their mean, 18.5."""
    variances = torch.arange(100.0, 0.0, -1.0)
    spread = FeatureSpread(100)
    spread.fit(torch.diag(variances).double())
    shrunk = (1 - SHRINKAGE) * variances + SHRINKAGE * 50.5
    shared = torch.cat([shrunk[:AXES], shrunk[AXES:].mean().repeat(100 - AXES)])
    found = spread(torch.eye(100)).square() * 100
    torch.testing.assert_close(found, 1 / shared, rtol=1e-4, atol=0.0)
    assert float(shared[-1]) == pytest.approx(0.99 * 18.5 + 0.505)


def test_training_tiles_have_a_root_mean_square_of_about_one():
    """Independent features: every variance is near 1, and shrinking changes none."""
    rows = torch.randn(20_000, 80, generator=torch.Generator().manual_seed(1))
    assert float(fitted(rows)(rows).square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)


def test_a_small_move_against_the_grain_is_seen_that_single_features_hide():
    """Every feature moves by 0.6 of its deviation, in signs that no training tile shows together."""
    rows = drawn(2000, 40)
    signs = torch.randn(40, generator=torch.Generator().manual_seed(9)).sign()
    moved = drawn(200, 40, seed=0) + 0.6 * signs
    plain, spread = FeatureSpread(40), fitted(rows)
    assert float(plain(moved).median() / plain(rows).median()) < 1.3
    assert float(spread(moved).median() / spread(rows).median()) > 1.8


def test_tiles_that_are_all_alike_and_features_that_never_vary_stay_finite():
    spread = FeatureSpread(3)
    spread.fit(torch.zeros(3, 3, dtype=torch.float64))
    assert spread(torch.tensor([[3.0, 0.0, 0.0]])).item() == pytest.approx(3 / 3**0.5)
    spread.fit(torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)))
    assert spread(torch.tensor([[0.0, 0.0, 0.1]])).item() == pytest.approx((0.01 / (0.01 * 2 / 3) / 3) ** 0.5)
