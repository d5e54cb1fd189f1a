"""Stamps, where they land, and how positions are strewn."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from wsi_kd.demo.nuclei import ORIENTATIONS, VARIANTS, Cells, NucleusKind, draw_stamps, lookup, place, scatter

ROUND = NucleusKind(8.0, 8.0, 0.0, 0.0, 1.0, 0.0, 0)
OVAL = NucleusKind(12.0, 5.0, 0.0, 0.0, 1.0, 0.0, 0)


def test_a_stamp_covers_the_area_of_its_ellipse():
    stamps = draw_stamps(OVAL, np.random.default_rng(0))
    assert stamps.shape[:2] == (ORIENTATIONS, VARIANTS)
    covered = (stamps > 0.5).sum(axis=(2, 3))
    assert covered == pytest.approx(np.pi * 12 * 5, rel=0.12)


def test_orientation_turns_the_long_axis():
    stamps = draw_stamps(OVAL, np.random.default_rng(0))
    y, x = np.nonzero(stamps[0, 0] > 0.5)
    assert np.ptp(x) > 2 * np.ptp(y)
    y, x = np.nonzero(stamps[ORIENTATIONS // 2, 0] > 0.5)
    assert np.ptp(y) > 2 * np.ptp(x)


def test_overlapping_nuclei_keep_the_darker_value():
    canvas = np.full((100, 100), 0.3, np.float32)
    stamps = draw_stamps(ROUND, np.random.default_rng(0))
    cells = Cells(np.array([50.0, 50.0]), np.array([50.0, 50.0]), np.zeros(2))
    place(cells, stamps, canvas=canvas, rng=np.random.default_rng(0), contrast=0.0)
    assert canvas.min() == pytest.approx(0.3)
    assert canvas[50, 50] == pytest.approx(1.0, abs=0.01)


def test_cells_over_the_edge_are_left_out():
    canvas = np.zeros((60, 60), np.float32)
    stamps = draw_stamps(ROUND, np.random.default_rng(0))
    cells = Cells(np.array([2.0, 58.0, 30.0]), np.array([30.0, 30.0, 1.0]), np.zeros(3))
    place(cells, stamps, canvas=canvas, rng=np.random.default_rng(0))
    assert canvas.max() == 0


def test_scatter_fills_where_density_is_one_and_nowhere_else():
    density = np.zeros((50, 100), np.float32)
    density[:, 50:] = 1
    x, y = scatter(density, spacing_px=20.0, scale=8, rng=np.random.default_rng(0), jitter=0.2)
    assert x.min() >= 400
    assert len(x) == pytest.approx(400 * 400 / 20**2, rel=0.06)
    nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), k=2)[0][:, 1]
    assert nearest.min() >= 20 * (1 - 2 * 0.2) - 1e-9


def test_scatter_keeps_the_stated_share():
    x, _ = scatter(
        np.full((100, 100), 0.25, np.float32), spacing_px=10.0, scale=8, rng=np.random.default_rng(0)
    )
    assert len(x) / (800 / 10) ** 2 == pytest.approx(0.25, abs=0.02)


def test_lookup_reads_the_coarse_cell_and_clamps():
    field = np.arange(6, dtype=np.float32).reshape(2, 3)
    x, y = np.array([0.0, 7.9, 8.0, 23.0, 99.0]), np.array([0.0, 0.0, 8.0, 15.9, -5.0])
    assert lookup(field, x, y, scale=8).tolist() == [0, 0, 4, 5, 2]
