import cv2
import numpy as np
import pytest
from drawn_tissue import DISK, GLASS, overview

from wsi_kd.demo.defects import draw_fold
from wsi_kd.tissue import fold
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.optical_density import mean_density

MPP = 8.0


def tissue_of(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 3).min(axis=2) < 225


def find_folds(pixels, tissue, **limits):
    return fold.find_folds(pixels, BitMask.of(tissue), **limits).whole()


def find(pixels, *, fold_ratio=1.6, min_fold_um2=20_000.0):
    glass = tuple(int(value) for value in GLASS)
    found = find_folds(
        pixels, tissue_of(pixels), mpp=MPP, glass=glass, fold_ratio=fold_ratio, min_fold_um2=min_fold_um2
    )
    assert not (found & ~tissue_of(pixels)).any()
    return found


@pytest.mark.parametrize("layers", [2.0, 3.0])
def test_a_band_of_double_density_is_found(layers):
    drawn = draw_fold(
        overview(), ((75, 60), (130, 90), (190, 100)), width_px=10.0, glass=GLASS, layers=layers
    )
    found = find(drawn.pixels)
    assert found[drawn.where].mean() > 0.7
    assert drawn.where[found].mean() > 0.9


def test_plain_tissue_and_dense_disks_are_no_folds():
    assert not find(overview()).any()
    pixels = overview().astype(np.float32)
    for x, y in ((100, 80), (150, 110), (140, 60)):
        dense = np.zeros(pixels.shape[:2], np.float32)
        cv2.circle(dense, (x, y), 12, 1.0, -1)
        pixels *= np.exp(-0.9 * dense)[..., None]
    assert not find(np.round(pixels).astype(np.uint8)).any()


def test_wide_dense_tissue_and_small_bands_are_no_folds():
    pixels = overview().astype(np.float32)
    pixels[66:112, 106:152] *= np.exp(-0.9)
    assert not find(np.round(pixels).astype(np.uint8)).any()
    band = draw_fold(overview(), ((75, 60), (190, 100)), width_px=10.0, glass=GLASS, layers=3.0)
    assert not find(band.pixels, min_fold_um2=1e6).any()
    assert not find(band.pixels, fold_ratio=8.0).any()


def test_no_tissue_no_fold():
    glass = np.full((40, 50, 3), 240, np.uint8)
    found = find_folds(
        glass, np.zeros((40, 50), bool), mpp=MPP, glass=(240, 240, 240), fold_ratio=1.6, min_fold_um2=0.0
    )
    assert not found.any()


def test_a_band_of_pale_tissue_is_too_uncertain_to_be_a_fold():
    """Twice a small density is within the grain of pale tissue: 0.25 more is needed, whatever the ratio."""
    pale = overview(eosin=0.15, hematoxylin=0.1)
    drawn = draw_fold(pale, ((75, 60), (190, 100)), width_px=10.0, glass=GLASS, layers=2.5)
    glass = tuple(int(value) for value in GLASS)
    found = find_folds(drawn.pixels, DISK, mpp=MPP, glass=glass, fold_ratio=1.6, min_fold_um2=20_000.0)
    assert not found.any()


@pytest.mark.parametrize("shape", [(180, 240), (317, 401)])
def test_the_neighborhood_of_blocks_is_that_of_pixels(shape):
    """Blocks of 4 x 4 pixels against all pixels: within 0.03 % of the density, at the very border 0.3 %."""
    rng = np.random.default_rng(0)
    blobs = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), 12)
    tissue = blobs > np.quantile(blobs, 0.4)
    light = np.where(tissue, 150 - 900 * blobs, 240) + rng.normal(0, 12, shape)
    pixels = np.clip(light, 1, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    glass, sigma_px = (240, 240, 240), fold.AROUND_UM / MPP
    whole = fold._mean_inside(mean_density(pixels, glass=glass), tissue, sigma_px)
    blocks = fold._neighborhood(pixels, BitMask.of(tissue), sigma_px, glass=glass)
    assert blocks.edge_px == 4
    found = fold._interpolated(blocks, slice(0, shape[0]), width=shape[1])
    off = np.where(tissue, np.abs(found / whole - 1), 0)
    assert off.max() < 0.003
    assert off[20:-20, 20:-20].max() < 0.0003
    assert np.array_equal(fold._interpolated(blocks, slice(60, 91), width=shape[1]), found[60:91])
    assert np.ptp(whole[tissue]) > 0.05  # or there was nothing to be off from
