"""What this process may use of the machine."""

import os
from pathlib import Path

DEVICES = Path("/dev")


def usable_cpus() -> int:
    """Count the CPU cores this process may use.

    The affinity (batch systems and containers set it) and `OMP_NUM_THREADS` (Snakemake sets it to a rule's
    `threads`) bound it, not the number of cores built into the machine.
    """
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def gpus_for(device: str) -> int:
    """Return how many GPUs a job with this `device` setting may compute on: 0 or 1.

    `auto` means a GPU where the NVIDIA driver shows one by its device files: asking torch costs two seconds.
    """
    return int(device.startswith("cuda") or (device == "auto" and any(DEVICES.glob("nvidia[0-9]*"))))
