import cv2
import numpy as np
import pytest

from wsi_kd.features.preparation import Preparation, prepare_tiles

TILES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(("edge", "how"), [(16, cv2.INTER_AREA), (48, cv2.INTER_LINEAR)])
def test_area_shrinks_by_area_and_enlarges_linearly(edge, how):
    expected = [cv2.resize(tile, (edge, edge), interpolation=how) for tile in TILES]
    np.testing.assert_array_equal(prepare_tiles(TILES, Preparation(edge, edge, "area")), expected)


def test_what_is_cut_off_is_cut_off_evenly():
    np.testing.assert_array_equal(prepare_tiles(TILES, Preparation(20, 32, "area")), TILES[:, 6:26, 6:26])
