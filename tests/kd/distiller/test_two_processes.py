"""Two processes that train together learn what one learns from all of the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import distillation_process
import pytest
import torch
from distillation_parts import batch_of
from distillation_process import HALF, PROCESSES, fitted, network, own_loop, with_layers
from safetensors.torch import load_file

SCRIPT = Path(distillation_process.__file__)
LONGEST_S = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes wrote."""
    place = tmp_path_factory.mktemp("processes")
    roots = [str(SCRIPT.parent), str(SCRIPT.parent.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(place)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        ended = [(process.communicate(timeout=LONGEST_S)[1], process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [code for _, code in ended] == [0, 0], ended
    return place


@pytest.mark.slow
def test_a_distiller_in_distributed_data_parallel_learns_what_one_process_does(folder: Path) -> None:
    """Layers that losses learn too: they are in the module that is synchronized."""
    distiller = with_layers(network(0, 5))
    distiller.prepare(batch_of(PROCESSES * HALF))
    expected = own_loop(distiller, distiller, part=slice(None))
    found = [load_file(folder / f"own_loop_{rank}.safetensors") for rank in range(PROCESSES)]
    assert "criteria.hint.layer.weight" in expected
    assert not any("teacher" in name for name in found[0])
    start = with_layers(network(0, 5)).state_dict()
    for name, value in expected.items():
        assert torch.equal(found[0][name], found[1][name])
        assert torch.allclose(found[0][name], value, atol=1e-5)
        assert name not in start or not torch.allclose(value, start[name], atol=1e-3)


@pytest.mark.slow
def test_a_fitted_student_in_distributed_data_parallel_learns_what_one_process_does(folder: Path) -> None:
    expected = fitted(network(0, 5), rank=None)
    found = [load_file(folder / f"fitted_{rank}.safetensors") for rank in range(PROCESSES)]
    for name, value in expected.items():
        assert torch.equal(found[0][name], found[1][name])
        assert torch.allclose(found[0][name], value, atol=1e-5)


@pytest.mark.slow
def test_layers_that_each_process_would_learn_alone_are_refused(folder: Path) -> None:
    for rank in range(PROCESSES):
        told = json.loads((folder / f"told_{rank}.json").read_text())
        assert told.startswith(
            "criterion 'hint' (Projected of the student's layer '0' and the teacher's '1'): "
        )
        assert "put DistributedDataParallel around the Distiller" in told
        assert "\n" not in told
