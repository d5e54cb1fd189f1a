import cv2
import numpy as np
import pytest
from drawn_tissue import DISK, GLASS, overview

from wsi_kd.demo.defects import draw_fold
from wsi_kd.tissue.fold import find_folds

MPP = 8.0


def tissue_of(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 3).min(axis=2) < 225


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
