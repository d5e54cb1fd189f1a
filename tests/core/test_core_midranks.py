import numpy as np
import pytest
from scipy.stats import rankdata

from wsi_kd.core.midranks import midranks


@pytest.mark.parametrize("count", [1, 2, 50, 3000])
def test_midranks_are_scipys_average_ranks(count):
    generator = np.random.default_rng(count)
    for values in (generator.random(count), generator.integers(0, 7, count) / 3, np.zeros(count)):
        assert midranks(values).tolist() == rankdata(values).tolist()


def test_no_values_have_no_ranks():
    assert midranks(np.zeros(0)).shape == (0,)
