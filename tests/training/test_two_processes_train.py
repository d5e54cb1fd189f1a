"""Two processes by gloo train what one trains, to 1e-5 in float32: dropout, noise and mining switched on.

Every run has three epochs, 13 bags of 1 to 40 instances in steps of four at most, the last of one bag. All
cases run behind the marker `reliability`, the main ones always.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import training_processes
from training_processes import CASES, EPOCHS, read_case, train_case

SCRIPT = Path(training_processes.__file__)
LONGEST_S = 900
TOLERANCE = 1e-5
MAIN = ("abmil", "weno", "weno on disk", "weno dsmil", "weno mining sub_bags", "weno alternate")
WITHOUT_EFFECT = ("attention_head.bias", "attention.2.bias")
"""A softmax does not see it: its gradient is a rounding error, which AdamW makes a step of."""
TIERS = [
    pytest.param(MAIN, id="main"),
    pytest.param(tuple(CASES), id="all", marks=pytest.mark.reliability),
]


def train_in_two(folder, cases):
    roots = [str(SCRIPT.parent), str(SCRIPT.parent.parent)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(roots),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder), *cases],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ended = [(process.communicate(timeout=LONGEST_S)[1], process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [code for _, code in ended] == [0, 0], ended


def differences(name, folder, alone):
    """Largest difference of weights and outputs, then of the history, relative to 1 + the value."""
    tensors, history = read_case(folder / name.replace(" ", "_"))
    expected, rows = train_case(name, alone)
    assert expected.keys() == tensors.keys()
    assert len(history) == len(rows) == EPOCHS
    felt = [key for key in expected if not key.endswith(WITHOUT_EFFECT)]
    of_tensors = max((expected[key] - tensors[key]).abs().max().item() for key in felt)
    of_rows = []
    for row, other in zip(rows, history, strict=True):
        numbers = {key: value for key, value in row.items() if isinstance(value, float)}
        assert {key: value for key, value in row.items() if key not in numbers} == {
            key: value for key, value in other.items() if key not in numbers
        }
        of_rows += [abs(value - other[key]) / (1.0 + abs(value)) for key, value in numbers.items()]
    return of_tensors, max(of_rows)


@pytest.mark.parametrize("cases", TIERS)
def test_two_processes_train_what_one_trains(tmp_path, cases, record_property):
    train_in_two(tmp_path, cases)
    found = {name: differences(name, tmp_path, tmp_path / f"alone {name}") for name in cases}
    worst = max(max(pair) for pair in found.values())
    record_property("figure", f"two processes: {len(cases)} ways to train, largest difference {worst:.1e}")
    assert {name: pair for name, pair in found.items() if max(pair) > TOLERANCE} == {}


def test_the_cases_learn_and_draw(tmp_path):
    """What is compared is no model that stands still."""
    first, _ = train_case("weno", tmp_path / "one")
    other, _ = train_case("abmil", tmp_path / "other")
    assert (first["bag_logits"] - other["bag_logits"]).abs().max() > 1e-3
    weights = training_processes.weno(optimization={"epochs": 1})(
        work_dir=tmp_path / "start", on_epoch=lambda row: None
    ).last_model.state_dict()
    moved = (first["model.projector.weight"] - weights["projector.weight"]).abs().max()
    assert moved > 100 * TOLERANCE
