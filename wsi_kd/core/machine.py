"""What this process may use of the machine."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

DEVICES = Path("/dev")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
NO_QUOTA = 2**31
UNKNOWN_MEMORY = 2**63
KIB = 1024


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
    quotas = [_quota_of(folder) for folder in _group_folders(groups, own, controller="cpu")]
    return min((quota for quota in quotas if quota is not None), default=NO_QUOTA)


def available_memory(groups: Path = GROUPS, own: Path = OWN_GROUPS, *, meminfo: Path = MEMINFO) -> int:
    """Return the bytes that this process may still take: of the machine, of each of its control groups.

    The system's cache of files counts as free, it is given back when it is asked for. Reads MemAvailable, and
    memory.max, memory.current and memory.stat (version 2) or memory.limit_in_bytes, memory.usage_in_bytes and
    memory.stat (version 1) of the group and of those above it; `UNKNOWN_MEMORY` where none of it is told.
    """
    rooms = [_room_in(folder) for folder in _group_folders(groups, own, controller="memory")]
    told = _numbers(meminfo).get("MemAvailable:")
    rooms.append(None if told is None else told * KIB)
    return max(0, min((room for room in rooms if room is not None), default=UNKNOWN_MEMORY))


def _group_folders(groups: Path, own: Path, *, controller: str) -> Iterator[Path]:
    """Yield the folders that may bound what the controller deals out: own groups, then those above."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for top in [groups / controllers, groups / controller] if controllers else [groups]:
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


def _room_in(group: Path) -> int | None:
    """Return the bytes left in a group; None where it has no limit."""
    limit, usage = ("memory.max", "memory.current")
    if not (group / limit).is_file():
        limit, usage = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        most, taken = (int((group / name).read_text()) for name in (limit, usage))
    except (OSError, ValueError):  # "max", or no limit here
        return None
    found = _numbers(group / "memory.stat")
    below = "total_" if "total_active_file" in found else ""  # version 1 tells of the group alone otherwise
    files = sum(found.get(f"{below}{kind}", 0) for kind in ("active_file", "inactive_file"))
    return most - taken + files


def _numbers(path: Path) -> dict[str, int]:
    """Read lines of a name and a number, and perhaps a unit; {} where there is no such file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) > 1}
    except (OSError, ValueError):
        return {}


def gpus_for(device: str) -> int:
    """Return how many GPUs a job with this `device` setting may compute on: 0 or 1.

    `auto` means a GPU where the NVIDIA driver shows one by its device files: asking torch costs two seconds.
    """
    return int(device.startswith("cuda") or (device == "auto" and any(DEVICES.glob("nvidia[0-9]*"))))
