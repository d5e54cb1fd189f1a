"""Rows and checks of a claim: hand-worked figures, and what a NaN does."""

import math

import pytest

from wsi_kd.claims.claim import Check, observe


def test_a_row_sums_up_its_seeds() -> None:
    row = observe("KD, n=300", [0.8, 0.9, 0.7])
    assert row.mean == pytest.approx(0.8, abs=1e-12)
    assert row.spread == pytest.approx(0.1, abs=1e-12)
    assert row.runs == (0.8, 0.9, 0.7)


def test_one_seed_has_no_spread() -> None:
    assert observe("KD", [0.5]).spread == 0.0


@pytest.mark.parametrize(
    ("found", "holds"),
    [(0.019, False), (0.02, True), (0.05, True), (0.051, False), (math.nan, False), (math.inf, False)],
)
def test_a_check_holds_between_its_bounds(found: float, holds: bool) -> None:
    assert Check("difference", found, at_least=0.02, at_most=0.05).holds is holds


def test_a_bound_alone() -> None:
    assert Check("gain", 0.3, 0.2).holds
    assert not Check("gain", 0.1, 0.2).holds
    assert Check("error", 1e-16, at_most=1e-12).holds
    assert not Check("error", math.nan, at_most=1e-12).holds
