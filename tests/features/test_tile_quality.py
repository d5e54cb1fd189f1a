import time

import cv2
import numpy as np
import pytest
from synthetic import GLASS, paint_slide

from wsi_kd.demo.defects import INKS, draw_pen
from wsi_kd.features.quality import TILES_A_CALL, Fate, QualityCheck, fates, measure_tiles
from wsi_kd.features.quality_columns import UNKNOWN, TileMeasures, unknown_quality
from wsi_kd.tissue.optical_density import density_color
from wsi_kd.tissue.pen import PEN_COLORS, pen_pixels

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


def reduced_plainly(tile, factor):
    """Means of areas as OpenCV rounds them: halves up for areas of 2 x 2, else to even."""
    edge = len(tile) // factor
    areas = tile[: edge * factor, : edge * factor].reshape(edge, factor, edge, factor, 3).astype(float)
    means = areas.mean(axis=(1, 3))
    return (np.floor(means + 0.5) if factor == 2 else np.rint(means)).astype(np.uint8)


def measured_plainly(tile, factor, pen_factor):
    small = reduced_plainly(tile, factor)
    density = np.log(GLASS[1] / np.maximum(small[..., 1].astype(float), 1))
    around = np.pad(density, 1, mode="reflect")
    detail = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * density
    bright = (small >= np.array(GLASS) * np.exp(-0.1)).all(axis=2)
    coarse = reduced_plainly(small, pen_factor)
    pen = pen_pixels(density_color(coarse, glass=GLASS), colors=PEN_COLORS)
    return detail.std() / (density.std() + 0.03), pen.mean(), bright.mean()


@pytest.mark.parametrize(
    ("edge_px", "tile_mpp", "factor", "pen_factor"),
    [(256, 0.5, 2, 8), (131, 0.5, 2, 8), (100, 0.25, 4, 6), (50, 1.0, 1, 8), (40, 4.0, 1, 2)],
)
def test_measures_are_those_of_the_plain_formulas(edge_px, tile_mpp, factor, pen_factor):
    """For more tiles than are worked on at once: tissue, its rim, glass, ink and noise."""
    drawn = paint_slide(seed=0, with_tumor=False)
    tiles = [drawn[y : y + edge_px, 180 : 180 + edge_px] for y in range(40, 340, 50)]
    tiles += [np.full_like(tiles[0], GLASS), np.full_like(tiles[0], (20, 60, 150))]
    tiles += [np.random.default_rng(0).integers(0, 256, tiles[0].shape, dtype=np.uint8)]
    assert len(tiles) % TILES_A_CALL
    found = np.stack(measure(*tiles, tile_mpp=tile_mpp), axis=1)
    expected = np.array([measured_plainly(tile, factor, pen_factor) for tile in tiles])
    assert found == pytest.approx(expected, rel=2e-6, abs=1e-7)
    assert found[-2, 1] == 1.0
    together = measure_tiles(np.stack(tiles), CHECK._replace(tile_mpp=tile_mpp))
    assert np.array_equal(np.stack(together, axis=1), found)


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
    """About 0.07 ms a tile of 256 px on one core; of many turns one is quick on a busy machine too."""
    tiles = [tissue()] * 16

    def spent(_):
        started = time.thread_time()
        measure(*tiles)
        return (time.thread_time() - started) / len(tiles)

    assert any(seconds < 1e-3 for seconds in map(spent, range(100)))


def test_tiles_at_a_limit_are_kept_so_that_the_defaults_drop_nothing():
    worst = TileMeasures(*np.float32([[0.0], [1.0], [1.0]]))
    assert fates(worst, CHECK).tolist() == [Fate.KEPT]
    at = TileMeasures(*np.float32([[0.25], [0.5], [0.5]]))
    limits = CHECK._replace(min_sharpness=0.25, max_pen_fraction=0.5, max_background_fraction=0.5)
    assert fates(at, limits).tolist() == [Fate.KEPT]
