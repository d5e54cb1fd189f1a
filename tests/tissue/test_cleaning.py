import cv2
import numpy as np
import pytest

from wsi_kd.tissue import cleaning, pieces
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.pieces import Pieces


def on_arrays(clean):
    """A function of masks of bits, for arrays."""

    def of_arrays(mask, *arguments):
        masks = [BitMask.of(item) if isinstance(item, np.ndarray) else item for item in (mask, *arguments)]
        return clean(*masks).whole()

    return of_arrays


close_gaps, dilated, fill_holes, pieces_with, without_small, without_thin = (
    on_arrays(getattr(cleaning, name))
    for name in ("close_gaps", "dilated", "fill_holes", "pieces_with", "without_small", "without_thin")
)


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


def noise(seed, *, share, shape=(83, 61), smooth=1.0):
    plane = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape), (0, 0), smooth)
    return plane < np.quantile(plane, share)


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("share", [0.03, 0.4, 0.97])
def test_whatever_is_cleaned_does_not_depend_on_the_runs(rows, share, monkeypatch):
    """Filters and pieces reach over the edges of runs; a run of one row has the most of those."""
    mask, seeds = noise(0, share=share), noise(1, share=0.02)

    def cleaned():
        found = [close_gaps(mask, 7.0), without_thin(mask, 5.0), dilated(mask, 4.0), pieces_with(mask, seeds)]
        found += [without_small(mask, 12.0), fill_holes(mask, 12.0)]
        parts = Pieces(BitMask.of(mask), connectivity=4)
        depths = np.sort(cleaning.mean_depth(parts, max_depth_px=90.0))
        return found, depths

    for module in (cleaning, pieces):
        monkeypatch.setattr(module, "MASK_STRIP_PX", 10**6)
    whole, whole_depths = cleaned()
    for module in (cleaning, pieces):
        monkeypatch.setattr(module, "MASK_STRIP_PX", rows * mask.shape[1])
    found, depths = cleaned()
    assert all(np.array_equal(*pair) for pair in zip(found, whole, strict=True))
    assert depths == pytest.approx(whole_depths, rel=1e-6)
    assert any(item.any() and not np.array_equal(item, mask) for item in whole)


def test_mean_depths_by_hand():
    """Of 1 x 5 pixels all are at the edge; of 3 x 3 the middle lies two deep (as 5 x 5 masks measure)."""
    mask = np.zeros((8, 8), bool)
    mask[0, :5] = True
    mask[3:6, 3:6] = True
    parts = Pieces(BitMask.of(mask), connectivity=4)
    expected = {5: 1.0, 9: (8 * 1.0 + 2.0) / 9}
    found = cleaning.mean_depth(parts, max_depth_px=4.0)
    assert {int(area): float(depth) for area, depth in zip(parts.area, found, strict=True)} == pytest.approx(
        expected, rel=1e-3
    )
