"""What the workflow costs beside the work itself, for cohorts of up to 100,000 slides.

    OMP_NUM_THREADS=1 python benchmarks/workflow_dag.py                        # 1k, 10k, 100k
    OMP_NUM_THREADS=1 python benchmarks/workflow_dag.py --slides 1000 --json FILE

The manifest is drawn, its slides are empty files: no pixel is read. Of each cohort, in a process of its own:

* `dry run`: `snakemake -n --quiet`, nothing made yet. Goal at 100,000 slides: 120 s and 4 GB.
* `no-op`: `snakemake` where everything is made (outputs drawn, recorded by Snakemake --touch).
* `in a job`: what a cluster's job pays before its command runs: Snakemake, started for one chunk.
* `command`: `wsi-kd mask --chunk 0`, whose slides cannot be read: start-up, manifest, 16 statuses.
* `split`: joining all status tables and dealing the cases; its goal is linear cost.

Limits: Snakemake holds one object a job and an input; files are looked at once each. Seconds of wall time and
of the processor, MiB the most that the process held.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import yaml

from bench_record import bench_record, measured_table
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.cli.layout import FOLDERS, Layout
from wsi_kd.cli.plan import Plan, read_plan
from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.split import run_split
from wsi_kd.steps.status import write_status

ROOT: Final = Path(__file__).resolve().parents[1]
SIZES: Final = (1_000, 10_000, 100_000)
CLASSES: Final = ("normal", "tumor")
PARTS: Final = ("dry run", "in a job", "command", "no-op", "split")
COLUMNS: Final = {
    "slides": ",.0f",
    "part": "",
    "s": ",.1f",
    "CPU s": ",.1f",
    "MiB": ",.0f",
    "CPU ms a slide": ",.2f",
}
SLIDES_A_CASE: Final = 2
DRY_RUN_GOAL_S, DRY_RUN_GOAL_MIB, GOAL_SLIDES = 120.0, 4096.0, 100_000
LIMIT_S: Final = 1800
TOUCH: Final = (
    "import snakemake.executors.touch as touch, snakemake.cli as cli;"
    "touch.Executor.SLEEPING_TIME = 0; cli.main()"
)
"""Its --touch waits 0.1 s a job, for clocks of one second; ours tell nanoseconds."""


class Spent(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def draw_manifest(folder: Path, slides: int) -> dict[str, Any]:
    """Touch `slides` empty slides, write their manifest and return the settings that name it."""
    (folder / "slides").mkdir(parents=True)
    lines = ["slide_id,path,label,case_id"]
    for index in range(slides):
        name = f"slide_{index:06d}"
        (folder / "slides" / f"{name}.svs").touch()
        case = index // SLIDES_A_CASE
        lines.append(f"{name},slides/{name}.svs,{CLASSES[case % 2]},case_{case:06d}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n")
    run = {"manifest": "slides.csv", "results_dir": "out", "max_failed_slides": slides}
    return {"run": run, "train": {"recipes": ["weno"]}, "embed": {"encoder": "stain_texture"}}


LAUNCHER = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
os.write(int(sys.argv[1]), f"{code} {used.ru_utime + used.ru_stime} {used.ru_maxrss}".encode())
"""
"""A process counts as its own what its parent held when it was forked, so that one is small here."""


def spent(command: Sequence[str], folder: Path) -> Spent:
    """Run a command in `folder` to its end.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    receive, send = os.pipe()
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, os.fdopen(receive) as told:
        launched = [sys.executable, "-c", LAUNCHER, str(send), *command]
        subprocess.run(launched, cwd=folder, stdout=said, stderr=said, pass_fds=[send], check=True)
        wall = time.perf_counter() - started
        os.close(send)
        code, cpu_s, peak_kib = told.read().split()
        if int(code):
            said.seek(0)
            raise RuntimeError(f"{command[:4]} failed: {said.read()[-2000:]}")
    return Spent(wall, float(cpu_s), int(peak_kib) / 1024)


def snakemake(folder: Path, *extra: str, code: str = "") -> list[str]:
    """Return the command line that runs the workflow in `folder`."""
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "snakemake"]
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    profile = ["--workflow-profile", str(ROOT / "workflow/profiles/default")]
    return [*start, *place, *profile, "--configfile", str(folder / "my.yaml"), "--cores", "2", *extra]


def job_of_chunk(folder: Path) -> list[str]:
    """Return what a cluster's job starts for one chunk, as a dry run; a profile is never read there."""
    only = ["--target-jobs", "mask:chunk=0", "--allowed-rules", "mask", "--mode", "remote", "--force", "-n"]
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--nolock", "--cores", "1"]
    return [sys.executable, "-m", "snakemake", *place, "--configfile", str(folder / "my.yaml"), *only]


def command_of_chunk(plan: Plan) -> list[str]:
    """Return the command of the job that masks the first chunk, as the rule has it."""
    beside = str(Path(sys.executable).parent / "wsi-kd")
    given = ["--settings", plan.step_settings("mask"), "--rows-hash", plan.chunk_hash("mask", 0)]
    return [beside, "mask", *given, "--chunk", "0"]


def outputs_of(plan: Plan) -> Iterator[Path]:
    """Yield every file that Snakemake tracks, in the order they are made in."""
    root = plan.layout.root
    for folder in FOLDERS.values():
        yield from (root / folder / f"chunk-{chunk}.csv" for chunk in range(len(plan.chunks)))
    yield from (root / "qc" / name for name in ("index.html", "qc.csv"))
    yield from (plan.layout.splits, plan.layout.status)
    train = plan.settings.train
    for recipe, seed, fold in (
        (r, s, f) for r in train.recipes for s in train.seeds for f in range(plan.folds)
    ):
        model, predictions = (
            plan.layout.model(recipe, seed, fold),
            plan.layout.predictions(recipe, seed, fold),
        )
        yield from (model / f"{kind}.{end}" for kind in ("model", "last") for end in ("safetensors", "json"))
        yield from (
            model / "history.csv",
            predictions / "predictions.csv",
            predictions / "last/predictions.csv",
        )
    yield from (root / "evaluation" / name for name in ("metrics.json", "predictions.csv"))
    tables = ("predictions", "training", "slides", "tiles", "timings")
    yield from (
        root / "report" / name for name in ("index.html", "metrics.json", *(f"{t}.csv" for t in tables))
    )
    yield root / "checked"


def draw_run(folder: Path, plan: Plan) -> None:
    """Make every output as an empty file, and Snakemake's records of them."""
    for path in outputs_of(plan):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    done = subprocess.run(
        snakemake(folder, "--touch", "--quiet", code=TOUCH),
        cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"snakemake --touch failed: {done.stderr[-2000:]}")


def time_split(folder: Path, config: Mapping[str, Any]) -> Spent:
    """Write the status tables of every chunk and time the step that joins them."""
    settings = parse_settings(config, where="benchmark")
    sheet = read_manifest(folder / "slides.csv", slides_dir=None, classes=())
    layout, a_job = Layout(folder / "split"), settings.run.slides_per_job
    chunks = [sheet.rows[start : start + a_job] for start in range(0, len(sheet.rows), a_job)]
    tables = [layout.chunk_status("embed", number) for number in range(len(chunks))]
    with mock.patch("os.fsync"):  # thousands of drawn tables need not survive a power cut
        for table, rows in zip(tables, chunks, strict=True):
            statuses = [
                StatusRow(
                    row.slide_id, SlideStatus.OK, "", "embed", 100, 1.0, 0.5, "vendor", 1.0, 100, *[0] * 4
                )
                for row in rows
            ]
            write_status(table, statuses, stamp("embed", {}))
    wall, cpu = time.perf_counter(), time.process_time()
    run_split(
        sheet,
        status_paths=tables,
        splits_path=layout.splits,
        status_path=layout.status,
        settings=settings,
    )
    return Spent(time.perf_counter() - wall, time.process_time() - cpu, 0.0)


def measure(slides: int, place: Path, parts: Sequence[str]) -> Iterator[tuple[str, Spent]]:
    """Draw a cohort below `place` and measure the parts on it."""
    folder = place / str(slides)
    config = draw_manifest(folder, slides)
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    if "dry run" in parts:
        yield "dry run", spent(snakemake(folder, "-n", "--quiet"), folder)
    if "in a job" in parts:
        yield "in a job", spent(job_of_chunk(folder), folder)
    plan = _plan_in(folder, config)
    if "command" in parts:
        yield "command", spent(command_of_chunk(plan), folder)
    if "no-op" in parts:
        draw_run(folder, plan)
        yield "no-op", spent(snakemake(folder, "--quiet"), folder)
    if "split" in parts:
        yield "split", time_split(folder, config)


def _plan_in(folder: Path, config: Mapping[str, Any]) -> Plan:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return read_plan(config)
    finally:
        os.chdir(before)


def main() -> None:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--folder", type=Path, help="where the cohorts are drawn; default: a temporary folder"
    )
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows: list[list[str | int | float | None]] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        for slides in chosen.slides:
            for part, took in measure(slides, Path(place), chosen.parts):
                rows.append([slides, part, *took[:2], took.peak_mib or None, 1e3 * took.cpu_s / slides])
                print(json.dumps(rows[-1]), flush=True)
    dry = [row for row in rows if row[0] == GOAL_SLIDES and row[1] == "dry run"]
    met = [bool(row[2] < DRY_RUN_GOAL_S and row[4] < DRY_RUN_GOAL_MIB) for row in dry]
    print(
        f"goal (100,000 slides: {DRY_RUN_GOAL_S:.0f} s, {DRY_RUN_GOAL_MIB:.0f} MiB): {met or 'not measured'}"
    )
    if chosen.json is not None:
        record = bench_record(
            "workflow_dag",
            {"slides": chosen.slides},
            tables={"parts": measured_table(COLUMNS, rows)},
            goal_met=met,
        )
        publish_json(chosen.json, record)
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
