import tracemalloc

import cv2
import numpy as np
import pytest
from drawn_tissue import GLASS, overview

from wsi_kd.demo.defects import draw_fold, draw_pen
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.slides.overview import Overview
from wsi_kd.steps.tissue import look_at_overview, tissue_of_overview
from wsi_kd.tissue import cleaning, pieces, polygons
from wsi_kd.tissue import strips as cut
from wsi_kd.tissue.strips import strips, strips_with_halo

FOLD, STROKE = ((75, 60), (130, 90), (190, 100)), ((20, 200), (120, 300), (220, 400))
MASK_BYTES_A_PIXEL = 1.0
"""What a mask may hold more for a pixel more of an overview, beside it: a few masks of bits, and outlines."""


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
    overview, mask = Overview(pixels, 1.0, (0, 0)), MaskSettings()
    header, marks = {"slide_mpp": 8.0, "bounds": [0, 0, pixels.shape[1], pixels.shape[0]]}, []
    seen = look_at_overview(overview, mask, header, marks=marks)
    tissue = tissue_of_overview(overview, seen, mask, header=header, marks=marks)
    return [tissue.wkb, header, {mark[0]: mark[1].wkb for mark in marks}]


@pytest.fixture
def run_of(monkeypatch):
    """Sets how many pixels a run has, everywhere."""

    def set_runs(pixels):
        monkeypatch.setattr(cut, "STRIP_PX", pixels)
        for module in (cleaning, pieces, polygons):
            monkeypatch.setattr(module, "MASK_STRIP_PX", pixels)

    return set_runs


def test_strips_are_all_rows_once_and_a_halo_stops_at_the_edges():
    found = [(rows.start, rows.stop) for rows in strips((600, 10), pixels=2_569)]
    assert found == [(0, 256), (256, 512), (512, 600)]
    first, middle, last = strips_with_halo((600, 10, 3), 3, pixels=2_569)
    assert (first.around, first.inside) == (slice(0, 259), slice(0, 256))
    assert (middle.around, middle.inside) == (slice(253, 515), slice(3, 259))
    assert (last.around, last.inside) == (slice(509, 600), slice(3, 91))
    assert list(strips((0, 7))) == []
    assert [rows.stop for rows in strips((20, 10), pixels=89, multiple_px=3)] == [6, 12, 18, 20]
    assert [rows.stop for rows in strips((7, 10), pixels=1, multiple_px=3)] == [3, 6, 7]


@pytest.mark.parametrize("rows", [9, 100])
def test_what_is_found_does_not_depend_on_the_strips(defects, rows, run_of):
    run_of(10**7)
    whole = outlined(defects)
    assert sorted(whole[2]) == ["Edge", "Fold", "Pen"]
    run_of(rows * defects.shape[1])
    assert outlined(defects) == whole


def test_the_memory_of_a_mask_is_that_of_bits(defects, run_of):
    """One overview, and two of it: what is held beside their pixels grows by bits, not by planes."""
    run_of(2**15)
    outlined(defects)  # what is imported and built by a first call counts in neither
    most = {}
    for times in (1, 2):
        large = np.tile(defects, (times, 1, 1))
        tracemalloc.start()
        try:
            outlined(large)
            most[large[..., 0].size] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    (few, small), (many, large) = most.items()
    assert (large - small) / (many - few) < MASK_BYTES_A_PIXEL
