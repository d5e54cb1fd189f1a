"""How much memory a training step on one large bag takes above the bag itself, on a CPU or a GPU.

    OMP_NUM_THREADS=1 python benchmarks/train_memory.py --json train_memory.json
    python benchmarks/train_memory.py --device cuda --json train_memory_gpu.json

One joint step (forward, backward, AdamW) on a bag of `--instances` x 1,024 float16 features, at width 512 and
attention 256, each teacher and precision in a process of its own. `above the bag` is the most that was held
while the bag was packed and learned from (resident; on a GPU allocated by torch) less what was held before,
which is the bag as stored and a model that has made a step on a small one.
`growth` is that over the same of half a bag: 2 where memory is linear in the bag. Goal: 1.5 GB for ABMIL.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import torch

from bench_record import bench_record, measured_table
from train_step import draw_bags, joint_step, started
from wsi_kd.core.files import publish_json
from wsi_kd.settings.models import TrainSettings

GOAL_GB: Final = 1.5
TEACHERS: Final = ("abmil", "gated_abmil", "transmil", "clam_sb", "clam_mb", "dsmil", "dtfd")
"""The first two unless told otherwise: the goal is theirs."""
STATUS: Final = Path("/proc/self/status")
COLUMNS: Final = {
    "teacher": "",
    "precision": "",
    "instances": ",.0f",
    "bag, GB": ".2f",
    "above the bag, GB": ".2f",
    "growth": ".2f",
}


def main() -> None:
    """Measure every teacher in a process of its own, or be such a process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS, default=TEACHERS[:2])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=3, metavar=("TEACHER", "PRECISION", "INSTANCES"), help="one, here")
    chosen = parser.parse_args()
    if chosen.measure:
        teacher, precision, instances = chosen.measure
        print(json.dumps(measure(teacher, precision, int(instances), device=chosen.device)))
        return
    rows = [
        measured_row(teacher, precision, chosen)
        for teacher in chosen.teachers
        for precision in chosen.precisions
    ]
    if chosen.json:
        settings = {key: value for key, value in vars(chosen).items() if key not in {"json", "measure"}}
        table = measured_table(COLUMNS, rows)
        publish_json(
            chosen.json, bench_record("train_memory", settings, tables={"steps": table}, goal_gb=GOAL_GB)
        )


def measured_row(teacher: str, precision: str, chosen: argparse.Namespace) -> list[Any]:
    """Measure half a bag and the bag; print the row."""
    taken = {}
    for instances in (chosen.instances // 2, chosen.instances):
        command = [sys.executable, __file__, "--device", chosen.device]
        command += ["--measure", teacher, precision, str(instances)]
        taken[instances] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    half, whole = taken.values()
    growth = whole["above_gb"] / half["above_gb"]
    row = [teacher, precision, chosen.instances, whole["bag_gb"], whole["above_gb"], growth]
    print(" | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row), flush=True)
    return row


def measure(teacher: str, precision: str, instances: int, *, device: str) -> dict[str, float]:
    """Return the bag's size and what a step takes above it, in GB."""
    settings = TrainSettings(
        teacher=teacher, precision=precision, device=device, hidden_dim=512, attention_dim=256
    )
    bags = draw_bags((instances,))
    with started(draw_bags((64,)), settings) as run:
        joint_step(run, settings)()  # optimizer, gradients and libraries are there once and for all
        before = _start_peak(device)
        joint_step(run._replace(train=bags), settings)()
        above = _peak(device) - before
    return {"bag_gb": bags.features.nbytes / 1e9, "above_gb": above / 1e9}


def _start_peak(device: str) -> int:
    """Forget the peak so far; return the bytes held now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
