import tracemalloc

import cv2
import numpy as np
import pytest
from drawn_tissue import GLASS, overview

from wsi_kd.demo.defects import draw_fold, draw_pen
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.slides.pyramid import Thumbnail
from wsi_kd.steps.tissue import look_at_thumbnail, tissue_of_thumbnail
from wsi_kd.tissue import strips as cut
from wsi_kd.tissue.strips import strips, strips_with_halo

FOLD, STROKE = ((75, 60), (130, 90), (190, 100)), ((20, 200), (120, 300), (220, 400))
MASK_BYTES_A_PIXEL = 14
"""What a mask may hold of a large overview beside its pixels."""


@pytest.fixture(scope="module")
def defects():
    """Two disks of tissue by four, 720 x 480 px; one with a fold, a stroke of a pen and a line across."""
    pixels = np.tile(overview(), (4, 2, 1))
    pixels[:180, :240] = draw_fold(pixels[:180, :240], FOLD, width_px=10.0, glass=GLASS, layers=3.0).pixels
    rng = np.random.default_rng(1)
    pixels = draw_pen(pixels, STROKE, ink="green", width_px=22.0, edge_px=2.0, strength=1.2, rng=rng).pixels
    line = np.zeros(pixels.shape[:2], np.uint8)
    cv2.line(line, (300, 10), (480, 700), 1, 2)
    pixels[line > 0] = 90
    return pixels


def outlined(pixels):
    """Everything that a mask tells of an overview at 8 um/px."""
    thumbnail, mask = Thumbnail(pixels, 1.0, (0, 0)), MaskSettings()
    header, marks = {"slide_mpp": 8.0, "bounds": [0, 0, pixels.shape[1], pixels.shape[0]]}, []
    pen = look_at_thumbnail(thumbnail, mask, header, marks=marks)
    tissue = tissue_of_thumbnail(thumbnail, pen, mask, header=header, marks=marks)
    return [tissue.wkb, header, {mark[0]: mark[1].wkb for mark in marks}]


def test_strips_are_all_rows_once_and_a_halo_stops_at_the_edges():
    assert [(rows.start, rows.stop) for rows in strips(600)] == [(0, 256), (256, 512), (512, 600)]
    first, middle, last = strips_with_halo(600, 3)
    assert (first.around, first.inside) == (slice(0, 259), slice(0, 256))
    assert (middle.around, middle.inside) == (slice(253, 515), slice(3, 259))
    assert (last.around, last.inside) == (slice(509, 600), slice(3, 91))
    assert list(strips(0)) == []


@pytest.mark.parametrize("rows", [1, 256])
def test_what_is_found_does_not_depend_on_the_strips(defects, rows, monkeypatch):
    monkeypatch.setattr(cut, "STRIP_PX", 10_000)
    whole = outlined(defects)
    assert sorted(whole[2]) == ["Edge", "Fold", "Pen"]
    monkeypatch.setattr(cut, "STRIP_PX", rows)
    assert outlined(defects) == whole


def test_the_memory_of_a_mask_is_that_of_few_planes(defects, monkeypatch):
    monkeypatch.setattr(cut, "STRIP_PX", 64)
    large = np.tile(defects, (2, 1, 1))
    tracemalloc.start()
    try:
        outlined(large)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MASK_BYTES_A_PIXEL * large[..., 0].size
