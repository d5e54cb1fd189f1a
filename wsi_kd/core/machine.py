"""What this process may use of the machine."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

DEVICES = Path("/dev")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
NO_QUOTA = 2**31


def usable_cpus() -> int:
    """Count the CPU cores this process may use.

    The affinity (batch systems and containers set it), the quota of its control groups (containers and
    Kubernetes set it) and `OMP_NUM_THREADS` (Snakemake sets it to a rule's `threads`) bound it, not the
    number of cores built into the machine.
    """
    cores = min(len(os.sched_getaffinity(0)), cpu_quota())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def cpu_quota(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Return how many cores the control groups of this process let it use, rounded up; many where none does.

    Reads cpu.max (version 2) or cpu.cfs_quota_us and cpu.cfs_period_us (version 1) of the group and of those
    above it, of which each bounds it.

    Args:
        groups: where the control groups are mounted.
        own: the kernel's list of the groups that this process is in: `number:controllers:path`.
    """
    quotas = [_quota_of(folder) for folder in _group_folders(groups, own)]
    return min((quota for quota in quotas if quota is not None), default=NO_QUOTA)


def _group_folders(groups: Path, own: Path) -> Iterator[Path]:
    """Yield the folders that may bound the processor's time: own groups, then those above."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in [groups / controllers, groups / "cpu"] if controllers else [groups]:
            inside = top / path.lstrip("/")
            yield from (folder for folder in (inside, *inside.parents) if folder.is_relative_to(top))


def _quota_of(group: Path) -> int | None:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no quota here
        return None


def gpus_for(device: str) -> int:
    """Return how many GPUs a job with this `device` setting may compute on: 0 or 1.

    `auto` means a GPU where the NVIDIA driver shows one by its device files: asking torch costs two seconds.
    """
    return int(device.startswith("cuda") or (device == "auto" and any(DEVICES.glob("nvidia[0-9]*"))))
