import numpy as np
import pytest

from wsi_kd.tissue.bit_mask import BitMask


def drawn(width, seed=0):
    return np.random.default_rng(seed).random((9, width)) < 0.4


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64])
def test_bits_do_what_booleans_do(width):
    one, other = drawn(width), drawn(width, seed=1)
    bits, others = BitMask.of(one), BitMask.of(other)
    assert np.array_equal((bits | others).whole(), one | other)
    assert np.array_equal((bits & others).whole(), one & other)
    assert np.array_equal((~bits).whole(), ~one)
    assert (bits.count(), (~bits).count()) == (one.sum(), (~one).sum())
    assert np.array_equal(bits[2:5], one[2:5])
    bits[2:4] = other[2:4]
    one[2:4] = other[2:4]
    assert np.array_equal(bits.whole(), one)


def test_a_pixel_is_seen_in_its_rows_alone():
    mask = np.zeros((9, 13), bool)
    mask[4, 12] = True
    bits = BitMask.of(mask)
    assert bits.any()
    assert [bits.any(slice(row, row + 1)) for row in range(9)] == [row == 4 for row in range(9)]
    assert not BitMask((9, 13)).any()


def test_a_mask_takes_a_bit_a_pixel():
    assert BitMask((100, 801))._bytes.nbytes == 100 * 101
