"""Bits, runs of rows, blocks and whole numbers against plain planes of floats: how far masks may differ."""

import cv2
import numpy as np
import pytest
from drawn_tissue import GLASS, overview
from plain_planes import plain_folds, plain_tissue

from wsi_kd.core.errors import SlideProblem
from wsi_kd.demo.defects import draw_fold, draw_pen
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.slides.overview import Overview
from wsi_kd.steps.tissue import look_at_overview, tissue_masks
from wsi_kd.tissue import cleaning, pieces
from wsi_kd.tissue import strips as cut
from wsi_kd.tissue.edge import find_edges

MPP = 8.0
FOLD, STROKE = ((75, 60), (130, 90), (190, 100)), ((20, 120), (120, 150), (220, 60))
TISSUE_OFF, FOLDS_OFF = 1e-3, 1e-3
"""Largest share of the tissue in which the masks may differ."""


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    """Runs that are a hundred times as short as those of a large slide."""
    monkeypatch.setattr(cut, "STRIP_PX", 2**13)
    for module in (cleaning, pieces):
        monkeypatch.setattr(module, "MASK_STRIP_PX", 2**14)


def compared(pixels):
    """Shares of the tissue in which tissue and folds differ, and how many pixels of both there are."""
    mask, header = MaskSettings(), {"slide_mpp": MPP, "bounds": [0, 0, *pixels.shape[1::-1]]}
    seen = look_at_overview(Overview(pixels, 1.0, (0, 0)), mask, header, marks=[])
    excluded = find_edges(seen.gray, mpp=MPP, max_edge_um=mask.max_edge_um) | seen.pen
    plain = plain_tissue(pixels, mpp=MPP, where=~excluded.whole())
    try:
        found = tissue_masks(Overview(pixels, 1.0, (0, 0)), excluded, mask, header=header)
    except SlideProblem:
        return plain.sum(), 0.0, 0, 0
    tissue, folds = found.tissue.whole(), found.folds.whole()
    plainly = plain_folds(pixels, tissue, mpp=MPP, glass=header["glass_rgb"])
    return (
        (tissue ^ plain).sum() / tissue.sum(),
        (folds ^ plainly).sum() / tissue.sum(),
        tissue.sum(),
        folds.sum(),
    )


@pytest.mark.parametrize("seed", range(3))
def test_drawn_tissue_is_that_of_plain_planes(seed):
    pixels = np.tile(overview(seed=seed), (3, 2, 1))
    pixels[:180, :240] = draw_fold(pixels[:180, :240], FOLD, width_px=10.0, glass=GLASS, layers=3.0).pixels
    rng = np.random.default_rng(seed)
    pixels = draw_pen(pixels, STROKE, ink="green", width_px=22.0, edge_px=2.0, strength=1.2, rng=rng).pixels
    tissue_off, folds_off, tissue_px, folds_px = compared(pixels)
    assert tissue_off <= TISSUE_OFF
    assert folds_off <= FOLDS_OFF
    assert tissue_px > 70_000
    assert folds_px > 500


@pytest.mark.shared_data
def test_real_tissue_is_that_of_plain_planes(shared_data, record_property):
    worst = [0.0, 0.0]
    for path in sorted((shared_data / "patches/histolab-fixtures").glob("*.png")):
        pixels = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        tissue_off, folds_off, *_ = compared(pixels)
        worst = [max(worst[0], tissue_off), max(worst[1], folds_off)]
    record_property("figure", f"masks: differ from plain planes in {worst[0]:.2%} of the tissue at most")
    assert worst[0] <= TISSUE_OFF
    assert worst[1] <= FOLDS_OFF
