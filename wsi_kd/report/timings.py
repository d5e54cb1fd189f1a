"""How long each step took and how much memory it needed, from what Snakemake measured of its jobs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wsi_kd.report.numbers import UNDEFINED, count_cell
from wsi_kd.report.page import Cell, Column, Note, Section, Table

STEPS = ("adopt", "mask", "tile", "stain", "embed", "qc", "split", "train", "predict", "evaluate")
"""In the order of the line; the report's own job is still running when the page is drawn."""
SECONDS_PER_MINUTE, SECONDS_PER_HOUR = 60, 3600


class JobTiming(NamedTuple):
    """One job as Snakemake measured it; None where it ended before it could be measured."""

    step: str
    job: str
    """Empty where the step is one job."""
    seconds: float | None
    """Wall clock."""
    cpu_seconds: float | None
    peak_rss_mb: float | None
    """Largest resident set of the job and its children (column max_rss, in MB of 2^20 bytes)."""


def job_timing(step: str, job: str, row: Mapping[str, str]) -> JobTiming:
    """Read one line of a benchmark file.

    >>> job_timing("train", "weno-seed0-fold1", {"s": "12.5", "cpu_time": "11.8", "max_rss": "-"})
    JobTiming(step='train', job='weno-seed0-fold1', seconds=12.5, cpu_seconds=11.8, peak_rss_mb=None)
    """
    return JobTiming(step, job, *(_number(row.get(name, "")) for name in ("s", "cpu_time", "max_rss")))


def timing_section(jobs: Sequence[JobTiming]) -> Section:
    """Build the table of steps: how many jobs, how long in all and at longest, how much memory at most."""
    heading = "Time and memory"
    if not jobs:
        text = (
            "Not measured: the run holds no benchmark files. Snakemake writes them (folder benchmarks/) when "
            "it runs the steps; a step that was run by its command leaves none."
        )
        return Section("timings", heading, (Note(text),))
    lead = (
        "As Snakemake measured each job of the last run of its step. Jobs run side by side, so that "
        "seconds do not sum to the time that one waited. Peak memory: the largest resident set of one job."
    )
    headings = ("Jobs", "All jobs", "Longest job", "CPU time, all jobs", "Peak memory (MB)", "Largest job")
    columns = (Column("Step"), *(Column(text, numeric=text != "Largest job") for text in headings))
    known = [step for step in STEPS if any(job.step == step for job in jobs)]
    rows = tuple(_row(step, [job for job in jobs if job.step == step]) for step in known)
    return Section("timings", heading, (Note(lead), Table("Steps", columns, rows)))


def duration(seconds: float) -> str:
    """Write seconds as a person would say them.

    >>> [duration(value) for value in (0.42, 75.0, 7384.0)]
    ['0.4 s', '1 min 15 s', '2 h 3 min']
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < SECONDS_PER_HOUR:
        return f"{whole // SECONDS_PER_MINUTE} min {whole % SECONDS_PER_MINUTE} s"
    minutes = round(seconds / SECONDS_PER_MINUTE)
    return f"{minutes // SECONDS_PER_MINUTE} h {minutes % SECONDS_PER_MINUTE} min"


def _row(step: str, jobs: Sequence[JobTiming]) -> tuple[Cell, ...]:
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    cpu_seconds = [job.cpu_seconds for job in jobs if job.cpu_seconds is not None]
    measured = [job for job in jobs if job.peak_rss_mb is not None]
    largest = max(measured, key=lambda job: job.peak_rss_mb or 0.0, default=None)
    peak_mb = None if largest is None else largest.peak_rss_mb
    return (
        Cell(step),
        count_cell(len(jobs)),
        _duration_cell(sum(seconds) if seconds else None),
        _duration_cell(max(seconds, default=None)),
        _duration_cell(sum(cpu_seconds) if cpu_seconds else None),
        Cell(UNDEFINED if peak_mb is None else f"{peak_mb:,.0f}", number=peak_mb),
        Cell("" if largest is None else largest.job),
    )


def _duration_cell(seconds: float | None) -> Cell:
    return Cell(UNDEFINED if seconds is None else duration(seconds), number=seconds)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
