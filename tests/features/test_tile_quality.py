import time

import cv2
import numpy as np
import pytest
from synthetic import GLASS, paint_slide

from wsi_kd.demo.defects import INKS, draw_pen
from wsi_kd.features.quality import (
    UNKNOWN,
    Fate,
    QualityCheck,
    TileMeasures,
    fates,
    measure_tiles,
    unknown_quality,
)
from wsi_kd.tissue.pen import PEN_COLORS

CHECK = QualityCheck(0.5, GLASS, PEN_COLORS, 0.0, 1.0, 1.0)


def tissue(*, stain=1.0, seed=0):
    """A tile inside the tissue of a drawn slide."""
    return np.ascontiguousarray(paint_slide(seed=seed, with_tumor=False, stain=stain)[260:516, 180:436])


def measure(*tiles, **changes):
    return measure_tiles(tiles, CHECK._replace(**changes))


def test_sharpness_by_hand():
    """Stripes of one pixel, density 0 and a: std(d) is a/2, L d is +-2a, so 2 a / (a/2 + 0.03)."""
    tile = np.full((8, 8, 3), 240, np.uint8)
    tile[:, ::2] = 120
    a = np.log(2)
    found = measure(tile, tile_mpp=1.0, glass=(240, 240, 240))
    assert found.sharpness[0] == pytest.approx(2 * a / (a / 2 + 0.03), rel=1e-4)


def test_sharpness_falls_with_blur_and_not_with_the_stain():
    tile = tissue()
    blurred = [cv2.GaussianBlur(tile, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0, 8.0)]
    sharp = measure(tile, *blurred).sharpness
    assert (np.diff(sharp) < 0).all()
    assert sharp[0] > 3 * sharp[3]
    pale, strong = measure(tissue(stain=0.6), tissue(stain=1.4)).sharpness
    assert strong / pale == pytest.approx(1, abs=0.15)


def test_sharpness_is_judged_at_one_scale_whatever_the_tile_s():
    tile = tissue()
    finer = cv2.resize(tile, (512, 512), interpolation=cv2.INTER_NEAREST)
    coarser = cv2.resize(tile, (128, 128), interpolation=cv2.INTER_AREA)
    found = [measure(tile).sharpness[0], measure(finer, tile_mpp=0.25).sharpness[0]]
    found.append(measure(coarser, tile_mpp=1.0).sharpness[0])
    assert found == pytest.approx([found[0]] * 3, rel=1e-3)


def test_glass_is_background_and_smooth():
    glass = np.full((256, 256, 3), GLASS, np.uint8)
    half = glass.copy()
    half[:128] = tissue()[:128]
    found = measure(glass, half, tissue())
    assert found.background_fraction[0] == 1.0
    assert found.background_fraction[1] == pytest.approx(0.5 + found.background_fraction[2] / 2, abs=0.05)
    assert found.background_fraction[2] < 0.2
    assert found.sharpness[0] == 0.0
    assert not found.pen_fraction.any()


@pytest.mark.parametrize("ink", INKS)
def test_pen_over_a_tile(ink):
    drawn = draw_pen(
        tissue(),
        ((0, 64), (256, 64)),
        ink=ink,
        width_px=128.0,
        edge_px=1.0,
        strength=2.0,
        rng=np.random.default_rng(0),
    )
    found = measure(drawn.pixels)
    assert found.pen_fraction[0] == pytest.approx(0.5, abs=0.1)
    assert not measure(drawn.pixels, pen_colors=()).pen_fraction.any()


def test_tiles_do_not_influence_each_other():
    tiles = [tissue(seed=seed) for seed in range(3)]
    together = measure(*tiles)
    for index, tile in enumerate(tiles):
        alone = measure(tile)
        assert [column[0] for column in alone] == [column[index] for column in together]
    assert [len(column) for column in measure()] == [0, 0, 0]


@pytest.mark.parametrize("edge_px", [4, 9, 27, 100])
@pytest.mark.parametrize("tile_mpp", [0.25, 2.0, 20.0])
def test_tiles_of_any_size_can_be_measured(edge_px, tile_mpp):
    found = measure(tissue()[:edge_px, :edge_px], tile_mpp=tile_mpp)
    assert np.isfinite(found).all()
    assert found.sharpness[0] > 0
    assert 0 <= found.background_fraction[0] <= 1


def test_of_several_faults_pen_counts_first_then_background():
    measures = TileMeasures(
        *np.float32([[0.5, 0.1, 0.1, 0.1, 0.2], [0, 0, 0, 0.9, 0], [0, 0, 0.9, 0.9, 0.4]])
    )
    limits = CHECK._replace(min_sharpness=0.2, max_pen_fraction=0.5, max_background_fraction=0.5)
    assert fates(measures, limits).tolist() == [
        Fate.KEPT,
        Fate.BLURRED,
        Fate.BACKGROUND,
        Fate.PEN,
        Fate.KEPT,
    ]
    assert (fates(measures, CHECK) == Fate.KEPT).all()


def test_unknown_is_minus_one_in_every_column():
    found = unknown_quality(3)
    assert all(column.tolist() == [UNKNOWN] * 3 and column.dtype == np.float32 for column in found)


def test_measuring_costs_little():
    """Budget 0.15 ms a tile of 256 px on one core; the limit here allows a slow and busy machine."""
    tiles = [tissue()] * 16
    measure(*tiles)
    spent = []
    for _ in range(5):
        started = time.thread_time()
        measure(*tiles)
        spent.append((time.thread_time() - started) / len(tiles))
    assert min(spent) < 1e-3


def test_tiles_at_a_limit_are_kept_so_that_the_defaults_drop_nothing():
    worst = TileMeasures(*np.float32([[0.0], [1.0], [1.0]]))
    assert fates(worst, CHECK).tolist() == [Fate.KEPT]
    at = TileMeasures(*np.float32([[0.25], [0.5], [0.5]]))
    limits = CHECK._replace(min_sharpness=0.25, max_pen_fraction=0.5, max_background_fraction=0.5)
    assert fates(at, limits).tolist() == [Fate.KEPT]
