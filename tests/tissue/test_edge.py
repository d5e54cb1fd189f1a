import cv2
import numpy as np
import pytest
from drawn_tissue import DISK, GLASS, overview

from wsi_kd.demo.defects import draw_bubble
from wsi_kd.tissue.colors import sort_pixels
from wsi_kd.tissue.edge import find_edges

MPP = 8.0


def find(pixels, *, max_edge_um=140.0):
    glass = tuple(int(value) for value in GLASS)
    gray = sort_pixels(pixels, glass=glass, pen_colors=()).gray
    return find_edges(gray, mpp=MPP, max_edge_um=max_edge_um).whole()


def shaded(pixels, points, *, width_px):
    line = np.zeros(pixels.shape[:2], np.float32)
    cv2.polylines(line, [np.int32(points)], isClosed=False, color=1.0, thickness=width_px)
    return np.round(pixels * np.exp(-1.2 * line)[..., None]).astype(np.uint8), line > 0


@pytest.mark.parametrize("stains", [{}, {"eosin": 0.0, "hematoxylin": 0.4, "dab": 0.8}], ids=["H&E", "DAB"])
def test_tissue_has_no_edges(stains):
    assert not find(overview(**stains)).any()


def test_the_rim_of_a_bubble_is_found():
    drawn = draw_bubble(
        overview(eosin=0.2, hematoxylin=0.1), center=(60.0, 90.0), radius_px=45.0, sigma_px=1.0
    )
    rows, columns = np.indices(DISK.shape)
    ring = np.abs(np.hypot(columns - 60, rows - 90) - 45) < 2
    found = find(drawn.pixels)
    assert found[ring].mean() > 0.9
    assert found.mean() < 3 * ring.mean()


def test_lines_count_by_width_and_length():
    glass = np.full((180, 240, 3), np.uint8(GLASS), np.uint8)
    pixels, line = shaded(glass, [(10, 20), (120, 60), (230, 50)], width_px=4)
    assert find(pixels)[line].all()
    assert not find(pixels, max_edge_um=16.0).any()
    assert not find(pixels, max_edge_um=0.0).any()
    assert not find(shaded(glass, [(10, 20), (230, 50)], width_px=30)[0]).any()
    assert not find(shaded(glass, [(10, 20), (40, 20)], width_px=4)[0]).any()
