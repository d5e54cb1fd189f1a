"""Run experiments: train every method of a file on all its draws, measure, and write the tables.

    python benchmarks/weno.py configs/experiments/gaussian.yaml
    python benchmarks/weno.py configs/experiments/*.yaml --resume
    python benchmarks/weno.py configs/experiments/mnist.yaml --seeds 0 --methods ABMIL --part val

Writes <out>/<name of the file>/: metrics.json, table.md, and jobs/ with what each job measured. --resume
keeps jobs whose settings have not changed, and tells how many were measured by other code than today's.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import wsi_kd
from experiment_file import Experiment, read_experiment
from experiment_jobs import Job, Row, job_key, list_jobs, run_job
from experiment_problems import prepare, problem_names
from experiment_tables import experiment_tables
from wsi_kd.core.errors import RunFailed, WsiKdError, unknown_name
from wsi_kd.core.files import content_hash, file_hash, publish_json, publish_text, read_json
from wsi_kd.core.provenance import stamp

WRITE_EVERY_S: Final = 10.0


class Done(NamedTuple):
    """What became of a job."""

    job: Job
    rows: list[Row]
    fault: str
    """Why it could not be measured; empty if it was."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments that the command line names; return the exit code."""
    chosen = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    faults = 0
    try:
        named = [(path, _narrowed(read_experiment(path), chosen)) for path in chosen.experiments]
        for path, experiment in named:
            faults += _run(experiment, chosen, out=chosen.out / path.stem)
        if faults:
            raise RunFailed(f"{faults} jobs failed; the lines above and metrics.json say why")
    except WsiKdError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _run(experiment: Experiment, chosen: argparse.Namespace, *, out: Path) -> int:
    """Run one experiment, print its tables, and return how many jobs failed."""
    cache = chosen.out / "features"
    prepare(experiment.problem, data=chosen.data, cache=cache)
    problems = tuple(chosen.problems or problem_names(experiment.problem))
    jobs = list_jobs(experiment, part=chosen.part, data=chosen.data, cache=cache, problems=problems)
    rows, jobs = _resumed(out, jobs) if chosen.resume else ([], jobs)
    faults: list[str] = []
    written = time.monotonic()
    for count, done in enumerate(_results(jobs, processes=chosen.processes), start=1):
        rows += done.rows
        faults += [done.fault] if done.fault else []
        _keep(out, done)
        sys.stderr.write(f"{out.name} {count}/{len(jobs)} {_told(done)}\n")
        if time.monotonic() - written > WRITE_EVERY_S:
            _write(out, experiment, rows, faults=faults, part=chosen.part)
            written = time.monotonic()
    _write(out, experiment, rows, faults=faults, part=chosen.part)
    sys.stdout.write((out / "table.md").read_text(encoding="utf-8"))
    return len(faults)


def _resumed(out: Path, jobs: Sequence[Job]) -> tuple[list[Row], list[Job]]:
    """Return what is measured already, and the jobs that are not."""
    found = {key: _read(out, key) for key in map(job_key, jobs) if _job_path(out, key).is_file()}
    older = sum(measured["code"] != _code_hash() for measured in found.values())
    told = f"{len(found)} of {len(jobs)} jobs are done already, {older} by other code"
    sys.stderr.write(f"{out.name}: {told}\n")
    rows = [Row(**row) for measured in found.values() for row in measured["rows"]]
    return rows, [job for job in jobs if job_key(job) not in found]


def _results(jobs: Sequence[Job], *, processes: int) -> Iterator[Done]:
    if processes == 1:
        yield from map(_attempt, jobs)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_attempt, jobs, chunksize=1)


def _attempt(job: Job) -> Done:
    """One job's fault does not end a night of others: it is told, counted, and ends the run with an error."""
    try:
        return Done(job, run_job(job), "")
    except WsiKdError as error:
        return Done(job, [], f"{job.draw.problem}, {job.method}, seed {job.draw.seed}: {error}")


def _keep(out: Path, done: Done) -> None:
    if not done.fault:
        rows = [row._asdict() for row in done.rows]
        measured = {"method": done.job.method, "code": _code_hash(), "rows": rows}
        publish_json(_job_path(out, job_key(done.job)), measured)


def _read(out: Path, key: str) -> dict[str, Any]:
    return read_json(_job_path(out, key), remake="benchmarks/weno.py without --resume")


@cache
def _code_hash() -> str:
    """Hash the package's sources as they were when this was first asked."""
    folder = Path(wsi_kd.__file__).parent
    return content_hash({str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*.py")})


def _job_path(out: Path, key: str) -> Path:
    return out / "jobs" / f"{key[:24]}.json"


def _told(done: Done) -> str:
    draw = done.job.draw
    what = f"{draw.problem}, {done.job.method}, seed {draw.seed}, fold {draw.fold}"
    return f"failed: {done.fault}" if done.fault else f"{what}: {done.rows[0].seconds:.1f} s"


def _write(
    out: Path, experiment: Experiment, rows: Sequence[Row], *, faults: Sequence[str], part: str
) -> None:
    rows = sorted(rows, key=lambda row: row[:5])
    publish_text(out / "table.md", experiment_tables(experiment, rows))
    made_with = {"experiment": experiment.model_dump(mode="json"), "part": part}
    measured = {"rows": [row._asdict() for row in rows], "faults": list(faults)}
    publish_json(out / "metrics.json", {**stamp("weno_experiment", made_with), **measured})


def _narrowed(experiment: Experiment, chosen: argparse.Namespace) -> Experiment:
    """Keep the seeds and methods that the command line names.

    Raises:
        BadInput: a method or problem that the experiment does not hold.
    """
    known = (*experiment.baselines, *experiment.methods)
    _check_names("method", chosen.methods, known)
    _check_names("problem", chosen.problems, problem_names(experiment.problem))
    wanted = set(chosen.methods if chosen.methods is not None else known)
    return experiment.model_copy(
        update={
            "seeds": tuple(chosen.seeds or experiment.seeds),
            "methods": {name: method for name, method in experiment.methods.items() if name in wanted},
            "baselines": tuple(name for name in experiment.baselines if name in wanted),
        }
    )


def _check_names(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in names or ():
        if name not in known:
            raise unknown_name(kind, name, known)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", type=Path, nargs="+", help="files such as configs/experiments/*.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the file's")
    parser.add_argument("--problems", nargs="+", help="only these of the file's")
    parser.add_argument("--methods", nargs="+", help="only these of the file's methods and baselines")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="what is scored")
    parser.add_argument("--processes", type=int, default=2, help="one torch thread each")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("results/weno"))
    parser.add_argument("--resume", action="store_true", help="keep the jobs that are done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
