"""One piece of tissue scanned at 0.25, 0.3, 0.5 and 0.59 um/px: the same place must give the same tile.

The tissue is drawn at 0.1 um/px; a scan is the exact mean over each of its pixels, stored without loss, its
resolution in the TIFF's tags alone. Places are multiples of 88.5 um, a whole number of pixels in every scan.
"""

from contextlib import closing

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from shapely.affinity import scale

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.stain_texture import stain_texture
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.pyramid import plan_read
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source
from wsi_kd.tiling.grid import tile_grid
from wsi_kd.tiling.spec import TileSpec

TRUE_MPP = 0.1
SCANS = (0.25, 0.3, 0.5, 0.59)
STEP_UM, PLACES = 88.5, 3
EDGE_UM = STEP_UM * PLACES
TILE_PX = 96
COARSEST = 1.0


def tissue(seed=0):
    """Light (rows, columns, 3) through stroma with fibers of 4 um and nuclei of 5 to 10 um."""
    rng = np.random.default_rng(seed)
    edge = round((EDGE_UM + TILE_PX * COARSEST) / TRUE_MPP)
    eosin = cv2.resize(rng.normal(0, 1, (edge // 20, edge // 20)).astype(np.float32), (edge, edge))
    hematoxylin = np.zeros((edge, edge), np.float32)
    density = np.linspace(0.2, 1.0, edge)  # more and more nuclei from left to right
    for _ in range(1500):
        x, y = rng.integers(0, edge, 2)
        if rng.random() > density[x]:
            continue
        axes = tuple(int(radius) for radius in rng.uniform(25, 50, 2))
        shade = float(rng.uniform(0.5, 1.1))
        cv2.ellipse(hematoxylin, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, shade, -1)
    hematoxylin = cv2.GaussianBlur(hematoxylin, (0, 0), 4)[..., None]  # 0.4 um: the microscope's own blur
    eosin = np.clip(0.5 + 0.4 * eosin, 0.05, 1.5)[..., None]
    return 240 * np.exp(-hematoxylin * np.float32([1.1, 1.3, 0.6]) - eosin * np.float32([0.15, 0.9, 0.5]))


def area_means(light, ratio):
    """Exact means over squares of `ratio` pixels, in float: what a scanner's pixel collects."""
    return cv2.resize(light, None, fx=1 / ratio, fy=1 / ratio, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder, light = tmp_path_factory.mktemp("scans"), tissue()
    paths = {}
    for mpp in SCANS:
        pixels = np.rint(area_means(light, mpp / TRUE_MPP)).astype(np.uint8)
        paths[mpp] = folder / f"{mpp}.tif"
        tifffile.imwrite(
            paths[mpp],
            pixels,
            tile=(256, 256),
            photometric="rgb",
            compression="deflate",
            resolution=(1e4 / mpp, 1e4 / mpp),
            resolutionunit="CENTIMETER",
        )
    return paths, light


def tiles_at_places(path, *, tile_mpp, tolerance=0.05, override=None):
    """The tiles at all places, as the steps read them."""
    with open_slide(path, background="metadata") as reader:
        mpp = resolve_mpp(
            reader.properties, override=override, min_mpp=0.05, max_mpp=20.0, from_objective=True
        )
        plan = plan_read(
            reader.level_downsamples,
            slide_mpp=mpp.mpp,
            tile_mpp=tile_mpp,
            tile_px=TILE_PX,
            mpp_tolerance=tolerance,
        )
        step = round(STEP_UM / mpp.mpp)
        coords = np.array([(x * step, y * step) for y in range(PLACES) for x in range(PLACES)], np.int64)
        with closing(open_tile_source(reader, plan, coords)) as source:
            return np.stack([source.read(x, y) for x, y in coords.tolist()])


def truth(light, tile_mpp):
    """The same tiles, from the tissue itself."""
    step, edge = round(STEP_UM / TRUE_MPP), round(TILE_PX * tile_mpp / TRUE_MPP)
    return np.stack(
        [
            np.rint(area_means(light[y * step :][:edge, x * step :][:, :edge], tile_mpp / TRUE_MPP))
            for y in range(PLACES)
            for x in range(PLACES)
        ]
    ).astype(np.uint8)


def relative(one, other):
    """Mean over features of the difference at the same place, in deviations between places."""
    deviation = other.std(axis=0)
    used = deviation > 1e-3
    return float((np.abs(one - other)[:, used] / deviation[used]).mean())


@pytest.mark.parametrize(
    ("mpp", "tile_mpp", "distance"),
    [
        (0.25, 0.6, 0.25),
        (0.3, 0.6, 0.25),
        (0.5, 0.6, 0.5),
        (0.59, 0.6, 0.7),
        (0.25, 1.0, 0.1),
        (0.3, 1.0, 0.2),
        (0.5, 1.0, 0.2),
        (0.59, 1.0, 0.5),
    ],
)
def test_every_scan_gives_the_tissues_own_tile(scans, mpp, tile_mpp, distance):
    """Measured distances: 0.14, 0.09, 0.31, 0.48 and 0.03, 0.09, 0.06, 0.31; noise of one level gives 0.29.

    The nearer a scan is to the tile's resolution, the fewer of its pixels a tile's pixel is a mean of.
    """
    paths, light = scans
    found, expected = tiles_at_places(paths[mpp], tile_mpp=tile_mpp), truth(light, tile_mpp)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.abs(found.astype(int) - expected).mean() < 1.5
    assert relative(stain_texture(found), stain_texture(expected)) < distance


@pytest.mark.parametrize(("mpp", "told"), [(0.3, 0.25), (0.59, 0.5)])
def test_a_wrong_resolution_is_as_bad_as_another_place(scans, mpp, told):
    """0.30 and 0.25, 0.59 and 0.5 are one magnification to those who sort scans into 40x and 20x."""
    paths, light = scans
    expected = stain_texture(truth(light, 0.6))
    wrong = stain_texture(tiles_at_places(paths[mpp], tile_mpp=0.6, override=told))
    assert relative(wrong, expected) > 1.2
    assert relative(expected[::-1], expected) > 1.2


def test_a_scan_coarser_than_the_tile_is_enlarged_within_the_tolerance_only(scans):
    paths, light = scans
    with pytest.raises(SlideProblem, match=r"scanned at 0\.59 um/px, tiles need 0\.5") as problem:
        tiles_at_places(paths[0.59], tile_mpp=0.5)
    assert problem.value.status == SlideStatus.TOO_COARSE
    found, expected = tiles_at_places(paths[0.59], tile_mpp=0.5, tolerance=0.2), truth(light, 0.5)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert relative(stain_texture(found), stain_texture(expected)) < 0.7


@pytest.mark.parametrize("mpp", SCANS)
def test_tiles_cover_the_same_micrometers(mpp):
    """The grid's tiles, in um: same number, same size, corners within half a pixel of the same place."""
    tissue_um = shapely.box(20, 20, 1000, 800)
    tissue_level0 = scale(tissue_um, 1 / mpp, 1 / mpp, origin=(0, 0))
    spec = TileSpec(256, 0.5, overlap_px=0, slide_mpp=mpp)
    grid = tile_grid(
        shapely.MultiPolygon([tissue_level0]),
        spec,
        level0_width_px=int(1100 / mpp),
        level0_height_px=int(900 / mpp),
        min_tissue_fraction=0.5,
    )
    assert spec.tile_level0_px * mpp == pytest.approx(128.0, rel=1e-12)
    corners_um = grid.coords * mpp
    wanted = [(x * 128.0, y * 128.0) for y in range(6) for x in range(8)]
    assert len(corners_um) == len(wanted)
    assert np.abs(corners_um - wanted).max() <= 0.5 * mpp + 1e-9
