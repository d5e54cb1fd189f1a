"""Every bit pattern of float16, and the edges of float32: the same word as numpy's."""

import numpy as np
import pytest

from wsi_kd.core import finite
from wsi_kd.core.finite import all_finite


def test_every_float16_is_judged_as_numpy_does():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    judged = np.array([all_finite(every[place : place + 1]) for place in range(len(every))])
    assert np.array_equal(judged, np.isfinite(every))
    assert judged.sum() == 2 * 31 * 1024


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("place", [0, 6, 7, 20])
def test_one_among_many_is_found_wherever_it_stands(monkeypatch, value, place):
    monkeypatch.setattr(finite, "VALUES_AT_ONCE", 7)
    values = np.full((3, 7), np.finfo(np.float32).max, np.float32)
    assert all_finite(values)
    values.reshape(-1)[place] = value
    assert not all_finite(values)
    assert not all_finite(values.T)


def test_what_holds_no_number_or_only_whole_ones_is_finite():
    assert all_finite(np.empty((0, 4), np.float16))
    assert all_finite(np.full((2, 2), 255, np.uint8))
    assert not all_finite(np.array([[0.0, np.nan]]))
