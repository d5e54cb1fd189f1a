"""The tables of benchmarks/compress_slides.py, their means worked by hand; and its small encoders."""

import pytest
import torch

from compression_tables import results, table
from small_encoders import Pixels, by_labels, not_at_all, plan_of, small_encoder
from wsi_kd.kd.cost import count_parameters

ROWS = {"large": ("A", "wide", "labels"), "small": ("A", "narrow", "large")}
COSTS = {
    "large": {"parameters": 1234567, "weights MB": 4.9, "s per 1,000 tiles": 20.0, "MIL ms per slide": 30.0},
    "small": {"parameters": 1000, "weights MB": 0.004, "s per 1,000 tiles": 0.256, "MIL ms per slide": 0.44},
}
RUNS = [
    {"row": "large", "fold": 0, "seed": 0, "bag AUC": 0.9, "instance AUC": 0.8},
    {"row": "large", "fold": 1, "seed": 0, "bag AUC": 0.7, "instance AUC": 0.8},
    {"row": "small", "fold": 1, "seed": 0, "bag AUC": 0.8, "instance AUC": 0.5},
    {"row": "small", "fold": 0, "seed": 0, "bag AUC": 0.8, "instance AUC": 0.7},
]


def test_rows_are_means_and_deviations_over_runs_beside_their_costs():
    lines = table(RUNS, COSTS, rows=ROWS).splitlines()
    assert (
        lines[2] == "| A | wide | labels | 0.800 ± 0.141 | 0.800 ± 0.000 | 1,234,567 | 4.90 | 20.00 | 30.0 |"
    )
    assert lines[3] == "| A | narrow | large | 0.800 ± 0.000 | 0.600 ± 0.141 | 1,000 | 0.00 | 0.26 | 0.4 |"
    assert len(lines) == 4


def test_differences_are_those_of_the_same_fold_and_seed():
    text = results(RUNS, COSTS, rows=ROWS, pairs=[("small", "large")])
    assert text.splitlines()[-1] == "| small less large | +0.000 ± 0.141 | -0.200 ± 0.141 |"


def test_a_row_that_was_not_run_is_left_out():
    assert "narrow" not in table(RUNS[:2], COSTS, rows=ROWS)


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 2
    tiles = torch.randint(0, 90, (48, 10, 10, 3), generator=generator) + 120 * labels.view(-1, 1, 1, 1)
    return {part: Pixels(tiles.to(torch.uint8), labels) for part in ("train", "val")}


def test_the_control_starts_from_the_same_weights_and_learns_from_slide_labels(pixels):
    start = not_at_all(10, seed=0)
    assert all(torch.equal(value, not_at_all(10, seed=0)[name]) for name, value in start.items())
    learned = by_labels(pixels, plan_of(epochs=2, seed=0))
    assert set(learned) == set(start)
    moved = [name for name in start if "weight" in name and not torch.equal(learned[name], start[name])]
    assert len(moved) == 8
    features = small_encoder(learned, 10)(pixels["train"].tiles.numpy())
    assert features.shape == (48, 128)
    assert count_parameters(small_encoder(learned, 10).network) == 97_680
