import numpy as np

from wsi_kd.features.quality_columns import TileMeasures
from wsi_kd.features.quality_counts import NOTABLE, quality_counts


def measures(*rows):
    return TileMeasures(*np.array(rows, np.float32).reshape(-1, 3).T.copy())


def test_a_limit_itself_is_not_notable():
    at_limit = (NOTABLE.min_sharpness, NOTABLE.max_pen_fraction, NOTABLE.max_background_fraction)
    exactly = measures([np.float32(limit) for limit in at_limit])
    beyond = measures([limit + step for limit, step in zip(at_limit, (-1e-3, 1e-3, 1e-3), strict=True)])
    assert quality_counts(beyond) == {"tiles": 1, "blurred": 1, "pen": 1, "background": 1}
    assert quality_counts(exactly) == {"tiles": 1, "blurred": 0, "pen": 0, "background": 0}


def test_tiles_count_once_for_each_fault():
    found = quality_counts(measures([0.5, 0.0, 0.0], [0.01, 0.9, 0.9], [0.01, 0.0, 0.6]))
    assert found == {"tiles": 3, "blurred": 2, "pen": 1, "background": 2}


def test_nothing_measured_is_nothing_told():
    assert quality_counts(None) == {}
    assert quality_counts(measures()) == {"tiles": 0, "blurred": 0, "pen": 0, "background": 0}
