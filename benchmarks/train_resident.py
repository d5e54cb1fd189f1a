"""Epochs of CAMELYON16's size whose bags lie on the GPU: seconds and memory, eager and compiled.

    python benchmarks/train_resident.py --json train_resident.json

270 bags of 15,000 x 1,024 float16 features, 8.3 GB; joint WENO epochs at width 512, attention 256, bfloat16.
Goals of one H200: 0.1 s an epoch, 0.25 ms a bag. A machine without a GPU says so and measures nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch

from bench_record import bench_record
from train_step import FEATURE_DIM, Row, as_measured, draw_bags, joint_epoch, started, table, take_turns
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json
from wsi_kd.settings.models import TrainSettings

MS_A_BAG: Final = 0.25
SECONDS_AN_EPOCH: Final = 0.1


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("bags", 270), ("instances", 15_000), ("repetitions", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    plan = parser.parse_args()
    if not torch.cuda.is_available():
        print("train_resident: skipped, this machine has no GPU")
        return
    rows = list(measure(plan))
    print(table(rows))
    if plan.json:
        settings = {key: value for key, value in vars(plan).items() if key != "json"}
        tables = {"epochs": as_measured(rows)}
        publish_json(
            plan.json, bench_record("train_resident", settings, tables=tables, torch=torch.__version__)
        )


def measure(plan: argparse.Namespace) -> Iterator[Row]:
    """Time epochs over bags that lie on the GPU, some bags a step, in the eager and the compiled model."""
    bags = bags_on_gpu((plan.instances,) * plan.bags)
    held = torch.cat([torch.randn(plan.instances, FEATURE_DIM, device="cuda").half() for _ in bags.labels])
    for bags_per_step in (1, 8, 16):
        for compiled in (False, True):
            settings = TrainSettings(
                device="cuda",
                hidden_dim=512,
                attention_dim=256,
                bags_per_step=bags_per_step,
                token_budget=bags_per_step * plan.instances,
            )
            with started(bags, settings) as run:
                resident = run._replace(resident=held)
                if compiled:
                    run.model.teacher.compile(dynamic=True)
                    run.model.projector.compile(dynamic=True)
                torch.cuda.reset_peak_memory_stats()
                seconds = median(take_turns({"": joint_epoch(resident, settings)}, plan.repetitions)[""])
            above = torch.cuda.max_memory_allocated() - held.nbytes
            yield {
                "bags_per_step": bags_per_step,
                "compiled": compiled,
                "instances": plan.instances,
                "epoch_seconds": seconds,
                "of_goal": seconds / SECONDS_AN_EPOCH,
                "ms_a_bag": 1000 * seconds / plan.bags,
                "ms_of_goal": 1000 * seconds / plan.bags / MS_A_BAG,
                "gb_above_the_bags": above / 1e9,
            }


def bags_on_gpu(sizes: Sequence[int]) -> BagSet:
    """Return bags whose features lie elsewhere: those here are one zero, seen from everywhere."""
    few = draw_bags((1,) * len(sizes))
    total = sum(sizes)
    return few._replace(
        features=np.broadcast_to(few.features[:1, :1] * 0, (total, FEATURE_DIM)),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        tile_labels=np.broadcast_to(few.tile_labels[:1], (total,)),
        coords=np.broadcast_to(few.coords[:1], (total, 2)),
    )


if __name__ == "__main__":
    main()
