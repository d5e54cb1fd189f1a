import cv2
import numpy as np
import pytest

from wsi_kd.tissue import pieces
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.pieces import Pieces


def drawn(text):
    return np.array([[sign == "#" for sign in line] for line in text.split()])


CORNERS = drawn("##.. ..## #..# ....")


def test_corners_join_pieces_by_eight_and_not_by_four():
    by_four, by_eight = (Pieces(BitMask.of(CORNERS), connectivity=number) for number in (4, 8))
    assert sorted(by_four.area.tolist()) == [1, 2, 3]
    assert sorted(by_eight.area.tolist()) == [1, 5]
    large = int(by_eight.area.argmax())
    box = (by_eight.left[large], by_eight.top[large], by_eight.right[large], by_eight.bottom[large])
    assert box == (0, 0, 4, 3)


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.62])
def test_pieces_over_many_runs_are_those_of_the_whole(rows, connectivity, share, monkeypatch):
    """Half the pixels: pieces that wind through many runs."""
    mask = np.random.default_rng(3).random((64, 50)) < share
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=connectivity
    )
    monkeypatch.setattr(pieces, "MASK_STRIP_PX", rows * 50)
    found = Pieces(BitMask.of(mask), connectivity=connectivity)
    assert found.count == count - 1
    together = np.zeros(mask.shape, np.int32)
    for where, part, piece_of in found.numbered():
        together[where] = piece_of[part] + 1
    assert np.array_equal(together > 0, mask)
    pairs = np.unique(np.stack([together[mask] - 1, numbers[mask]]), axis=1)
    assert pairs.shape[1] == count - 1
    ours, theirs = pairs
    columns = [found.left, found.top, found.right - found.left, found.bottom - found.top, found.area]
    assert np.array_equal(np.stack(columns, axis=1)[ours], stats[theirs])


def test_some_pieces_and_those_that_hold_a_seed():
    mask, seed = drawn("##.# ##.. ...# #..#"), drawn(".... .#.. .... #...")
    found = Pieces(BitMask.of(mask), connectivity=4)
    assert np.array_equal(found.chosen(found.area == 2).whole(), drawn(".... .... ...# ...#"))
    assert np.array_equal(found.chosen(found.holding(BitMask.of(seed))).whole(), drawn("##.. ##.. .... #..."))


def test_nothing_has_no_pieces():
    found = Pieces(BitMask((5, 4)), connectivity=8)
    assert (found.count, len(found.area)) == (0, 0)
    assert not found.chosen(np.zeros(0, bool)).any()
