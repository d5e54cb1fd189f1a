import numpy as np

from wsi_kd.tissue.cleaning import close_gaps, dilated, fill_holes, pieces_with, without_small, without_thin


def square(low, high, *, size=40):
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def test_a_square_of_n_pixels_is_kept_from_n_pixels_on():
    mask = square(5, 15)
    assert np.array_equal(without_small(mask, 100.0), mask)
    assert not without_small(mask, 101.0).any()


def test_thin_bands_go_and_wide_squares_stay():
    mask = square(10, 30)
    mask[2:4, :] = True
    left = without_thin(mask, 6.0)
    assert not left[:5].any()
    assert left[10:30, 10:30].mean() > 0.95  # a disk rounds the corners
    assert np.array_equal(without_thin(mask, 1.0), mask)


def test_dilation_reaches_as_far_as_asked():
    mask = square(20, 21)
    reach = np.argwhere(dilated(mask, 5.0)) - 20
    assert np.abs(reach).max() == 5
    assert abs(len(reach) - np.pi * 5.0**2) < 12
    assert not dilated(np.zeros((5, 5), bool), 3.0).any()


def test_gaps_are_closed_and_holes_filled_by_their_size():
    mask = square(5, 35)
    mask[:, 20:22] = False
    assert close_gaps(mask, 6.0)[8:32, 20:22].all()
    assert not close_gaps(mask, 1.0)[:, 20:22].any()
    holed = square(5, 35)
    holed[10:13, 10:13] = False
    assert fill_holes(holed, 10.0)[10:13, 10:13].all()
    assert not fill_holes(holed, 9.0)[10:13, 10:13].any()


def test_pieces_are_kept_whole_or_not_at_all():
    mask = square(2, 8) | square(20, 30)
    seeds = np.zeros_like(mask)
    seeds[25, 25] = seeds[15, 15] = True
    assert np.array_equal(pieces_with(mask, seeds), square(20, 30))
    assert not pieces_with(mask, np.zeros_like(mask)).any()
