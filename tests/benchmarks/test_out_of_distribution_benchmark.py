"""The benchmarks of flag and spread: their yardstick and their AUROCs, by hand and on drawn features."""

import numpy as np
import pytest
import torch

from ensemble_spread import Called, finds_errors, parts_of
from out_of_distribution import SCANNED, cut, fit_yardstick, measure


def drawn(count, *, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [shift + torch.randn(40, 6, generator=generator) for _ in range(count)]


def test_slides_like_the_training_are_rarely_flagged_and_moved_ones_always():
    table = measure({SCANNED: drawn(60), "moved": drawn(8, shift=3.0, seed=1)}, seed=0)
    assert table["moved"]["auroc spread"] == 1.0
    assert table["moved"]["flagged spread"] == 1.0
    assert table[SCANNED]["auroc spread"] == pytest.approx(0.5)
    assert table[SCANNED]["flagged spread"] == pytest.approx(0.05, abs=0.05)
    assert table[SCANNED]["constant"] == 0.0


def test_the_yardstick_is_in_deviations_of_the_training():
    """Rows -1 and 1 of each feature: mean 0, deviation 1; a tile at 3 in all is 3 away, 2 of a kind less."""
    rows = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    yardstick = fit_yardstick([rows])
    found = yardstick.distances(torch.full((3, 2), 3.0))
    assert found["rms z"] == pytest.approx(3.0)
    assert found["spread"] == pytest.approx(3.0, rel=1e-5)  # independent features: no direction is narrower


def test_tiles_without_tissue_are_left_out():
    image = np.full((4, 6, 3), 255, np.uint8)
    image[:2, 4:] = 100
    assert cut(image, 2).shape == (1, 2, 2, 3)


def test_errors_are_found_by_hand():
    """Wrong are the second and the third call; the spread ranks one of them above each right one."""
    called = [
        Called(probability=0.9, threshold=0.5, spread=0.2, label=1),
        Called(probability=0.6, threshold=0.5, spread=0.3, label=0),
        Called(probability=0.4, threshold=0.5, spread=0.1, label=1),
        Called(probability=0.1, threshold=0.5, spread=0.05, label=0),
    ]
    found = finds_errors(called)
    assert (found["slides"], found["wrong"]) == (4.0, 2.0)
    assert found["spread"] == 0.75
    assert found["near the threshold"] == 1.0
    assert finds_errors(called[:1]) == {"slides": 1.0, "wrong": 0.0}


def test_every_slide_is_held_out_once():
    labels = np.array([0, 1] * 10)
    parts = parts_of(np.arange(20), labels, seed=0)
    assert sorted(np.concatenate([part for _, part in parts]).tolist()) == list(range(20))
    assert all(
        set(rest.tolist()).isdisjoint(part.tolist()) and labels[part].sum() == 2 for rest, part in parts
    )
