"""Snakemake through the SLURM profile: the call, what is queued, and what a finished run holds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from snakemake_runs import ROOT, SETTINGS, Done, arguments

LIMIT_S = 1800
SOON = (
    *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "2"),
    *("--latency-wait", "10", "--max-status-checks-per-second", "10"),
)
"""The profile's patience is for clusters of hundreds of jobs."""
VOLATILE = (
    *("chunk-", "status.csv", "timings.csv", "slides.csv", "index.html", "reporting_items.json"),
    ".wsi-kd",
)
"""Begins of names: files that hold seconds, or are drawn from such; who holds the run, times of slides."""


FIELDS = ("JobID", "State", "Partition", "MinMemory", "tres-per-job", "Comment")
WIDTH = 60


class Queued(NamedTuple):
    """A line of squeue."""

    job: str
    state: str
    partition: str
    memory: str
    cards: str
    comment: str
    """The plugin names rule or group here."""


def command(folder: Path, *extra: str) -> list[str]:
    """Write the settings and return the command line that runs the workflow in `folder` on the cluster."""
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    profile = ["--workflow-profile", str(ROOT / "workflow/profiles/slurm")]
    settings = ["--configfile", str(folder / "my.yaml")]
    return [sys.executable, "-m", "snakemake", *place, *profile, *settings, *SOON, *extra]


def run_here(folder: Path, *extra: str, variables: Mapping[str, str] | None = None) -> Done:
    """Run the workflow in `folder` on this machine, by the Snakemake of this environment."""
    snakemake = [sys.executable, "-m", "snakemake", *arguments(folder, SETTINGS)[1:], *extra]
    done = subprocess.run(
        snakemake,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, **(variables or {})},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def start(folder: Path, log: str, *, variables: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start the workflow in `folder` on the cluster."""
    with (folder / log).open("w") as said:
        return subprocess.Popen(
            command(folder),
            cwd=folder,
            stdout=said,
            stderr=said,
            env={**environment(), **(variables or {})},
            start_new_session=True,
        )


def kill_the_run(folder: Path, *, variables: Mapping[str, str] | None = None) -> dict[Path, int]:
    """SIGKILL Snakemake as soon as masks are published, and take its jobs off the queue.

    Returns the masks that were published, with their times.
    """
    with start(folder, "first.log", variables=variables) as run:
        wait_for(lambda: list(folder.glob("out/masks/[!.]*.geojson")), alive=run)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait(timeout=LIMIT_S)
    for job in queued(""):
        subprocess.run(["scancel", "--signal=KILL", "--full", job.job], check=False, capture_output=True)
        subprocess.run(["scancel", job.job], check=False, capture_output=True)
    published = folder.glob("out/masks/[!.]*.geojson")
    return {path: path.stat().st_mtime_ns for path in published}


def queued(rule: str) -> list[Queued]:
    """Return the jobs of a rule or group, ended ones too."""
    fields = ",".join(f"{field}:{WIDTH}" for field in FIELDS)
    asked = ["squeue", "--noheader", "--states=all", f"--Format={fields}"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    starts = range(0, WIDTH * len(FIELDS), WIDTH)
    jobs = [Queued(*(line[start : start + WIDTH].strip() for start in starts)) for line in lines]
    return [job for job in jobs if rule in job.comment]


def processes(*words: str, folder: Path) -> list[int]:
    """Return the processes that work in `folder` and have all these words among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (process / "cwd").readlink() == folder
        except OSError:
            continue  # it ended while it was looked at
        if here and set(words) <= set(arguments):
            found.append(int(process.name))
    return found


def wait_for(found: Callable[[], list], *, alive: subprocess.Popen) -> list:
    """Wait until something is found, as long as the run lives."""
    limit = time.monotonic() + LIMIT_S
    while not (what := found()):
        assert alive.poll() is None, "the run ended before"
        assert time.monotonic() < limit
        time.sleep(0.05)
    return what


def contents(results: Path) -> dict[str, bytes]:
    """Return what a run is for: every file but logs and those that hold seconds."""
    files = sorted(path for path in results.rglob("*") if path.is_file())
    names = {path: path.relative_to(results) for path in files}
    return {
        str(name): path.read_bytes()
        for path, name in names.items()
        if name.parts[0] not in {"logs", "benchmarks"} and not name.name.startswith(VOLATILE)
    }


def environment() -> dict[str, str]:
    """Return the environment of a user who activated nothing: jobs must find `wsi-kd` by themselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMP"))}
    return {**kept, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
