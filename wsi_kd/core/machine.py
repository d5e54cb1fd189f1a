"""What this process may use of the machine."""

import os


def usable_cpus() -> int:
    """Count the CPU cores this process may use.

    The affinity (which batch systems and containers set) and `OMP_NUM_THREADS` (which Snakemake sets to a rule's
    `threads`) both bound it; the number of cores built into the machine does not count.
    """
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores
