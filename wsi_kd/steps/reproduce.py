"""Step reproduce: claim checks by name -> <out>/<method>.json, claims.json, index.html."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import wsi_kd
from wsi_kd.claims.claim import Claim
from wsi_kd.claims.measured import Measured, from_json, measure, to_json
from wsi_kd.claims.registry import CLAIMS
from wsi_kd.core.errors import BadInput, RunFailed, unknown_name
from wsi_kd.core.files import content_hash, file_hash, publish_json, publish_text, read_json
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import git_state, stamp
from wsi_kd.report.claims import ClaimRecord, claim_svg, claims_page
from wsi_kd.report.render import render_page

CODE = ("claims", "distillation", "kd", "core")
"""The packages whose code decides what a claim gives."""


class Finished(NamedTuple):
    """One claim with what it gave."""

    claim: Claim
    measured: Measured
    kept: bool
    """True: an earlier run with the same seeds, code and versions left it in the folder."""


class Reproduced(NamedTuple):
    """What a call of the step left."""

    finished: list[Finished]
    page: Path


def chosen_claims(methods: Sequence[str]) -> list[Claim]:
    """Return the claims of these methods in the order of the registry; all of them where none is named.

    Raises:
        BadInput: no claim is known by that name, with the nearest one.
    """
    for method in methods:
        if method not in CLAIMS:
            raise unknown_name("claim check", method, CLAIMS)
    return [claim for name, claim in CLAIMS.items() if not methods or name in methods]


def run_reproduce(
    claims: Sequence[Claim],
    *,
    seeds: int | None,
    out_dir: Path,
    processes: int,
    tell: Callable[[Finished], None],
) -> Reproduced:
    """Run claims and write each as it finishes, then all of them in one JSON file and one page.

    A claim that an earlier run left in the folder, with the same seeds, code and package versions, is kept.

    Args:
        claims: what is run; each one's `run` must be importable where there are several processes.
        seeds: how many each claim runs; None: its own number.
        out_dir: where the files go.
        processes: how many claims run at the same time.
        tell: called with each claim as it finishes.

    Raises:
        BadInput: no seed or process is asked for, or the folder cannot be made.
        RunFailed: a file could not be written, or a process was killed.
    """
    for option, number in (("--seeds", seeds), ("--processes", processes)):
        if number is not None and number < 1:
            raise BadInput(f"{option} {number}: expected 1 or more")
    _make_folder(out_dir)
    code = code_hash()
    finished: dict[str, Finished] = {}
    with progress("reproduce", total=len(claims), unit="claims") as advance:
        for one in _finish(claims, seeds=seeds, out_dir=out_dir, processes=processes, code=code):
            finished[one.claim.method] = one
            tell(one)
            advance(note=one.claim.method)
    ordered = [finished[claim.method] for claim in claims]
    records = [ClaimRecord(one.claim, one.measured) for one in ordered]
    page = out_dir / "index.html"
    publish_json(out_dir / "claims.json", _summary(ordered, code=code))
    publish_text(page, render_page(claims_page(records, git=git_state(), code=code, seeds=seeds)))
    return Reproduced(ordered, page)


def write_plots(finished: Sequence[Finished], folder: Path) -> list[Path]:
    """Write `<method>.svg` for each claim that has a chart; equal figures give equal bytes.

    Raises:
        RunFailed: a file could not be written.
    """
    charts = {one.claim.method: claim_svg(one.measured) for one in finished}
    written = []
    for method, chart in charts.items():
        if chart is not None:
            written.append(folder / f"{method}.svg")
            publish_text(written[-1], chart)
    return written


def check_reproduced(reproduced: Reproduced) -> None:
    """Fail if a check does not hold.

    Raises:
        RunFailed: naming every such check.
    """
    failed = [
        f"{one.claim.method}: {check.says}" for one in reproduced.finished for check in one.measured.failed
    ]
    failed += [
        f"{one.claim.method}: no check" for one in reproduced.finished if not one.measured.found.checks
    ]
    if failed:
        checks = sum(len(one.measured.found.checks) for one in reproduced.finished)
        raise RunFailed(
            f"{len(failed)} of {checks} checks failed: {'; '.join(failed)}; see {reproduced.page}"
        )


def code_hash() -> str:
    """Return a sha256 over the source files that decide what claims give."""
    root = Path(wsi_kd.__file__).parent
    files = sorted(path for package in CODE for path in (root / package).rglob("*.py"))
    return content_hash({path.relative_to(root).as_posix(): file_hash(path) for path in files})


def _finish(
    claims: Sequence[Claim], *, seeds: int | None, out_dir: Path, processes: int, code: str
) -> Iterator[Finished]:
    """Yield the claims that are kept, then the others as each is done and written."""
    waiting: list[tuple[Claim, int]] = []
    for claim in claims:
        wanted = claim.seeds if seeds is None else seeds
        kept = _kept(out_dir / f"{claim.method}.json", _header(claim, seeds=wanted, code=code))
        if kept is None:
            waiting.append((claim, wanted))
        else:
            yield Finished(claim, kept, kept=True)
    for claim, measured in _measure_all(waiting, processes=processes):
        header = _header(claim, seeds=measured.seeds, code=code)
        publish_json(out_dir / f"{claim.method}.json", {**header, **_told(claim), **to_json(measured)})
        yield Finished(claim, measured, kept=False)


def _measure_all(waiting: Sequence[tuple[Claim, int]], *, processes: int) -> Iterator[tuple[Claim, Measured]]:
    if processes == 1 or len(waiting) < 2:  # noqa: PLR2004 - one claim needs no second process
        yield from ((claim, measure(claim, seeds=seeds)) for claim, seeds in waiting)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(waiting)), mp_context=context) as pool:
        jobs = {pool.submit(measure, claim, seeds=seeds): claim for claim, seeds in waiting}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BrokenProcessPool:
            raise RunFailed(
                "a process was killed, most likely for want of memory; finished claims are kept: "
                "run the same command again with fewer --processes"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _make_folder(out_dir: Path) -> None:
    """Find out before minutes are spent whether the folder can be had."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--out {out_dir}: no such folder can be made ({error.strerror}); name another"
        ) from None


def _header(claim: Claim, *, seeds: int, code: str) -> dict[str, Any]:
    """Return the stamp of a claim's file; equal ones mean that the claim would give the same again."""
    return stamp("claim", {"method": claim.method, "seeds": seeds, "code_sha256": code})


def _kept(path: Path, header: dict[str, Any]) -> Measured | None:
    """Return what an earlier run left, if it is whole and of the same header."""
    try:
        value = read_json(path, remake="wsi-kd reproduce")
    except BadInput:
        return None
    if {key: value.get(key) for key in header} != header:
        return None
    return from_json(value)


def _told(claim: Claim) -> dict[str, str]:
    return {
        "paper": claim.paper,
        "claims": claim.claims,
        "setting": claim.setting,
        "reference": claim.reference,
    }


def _summary(finished: Sequence[Finished], *, code: str) -> dict[str, Any]:
    """Return all claims of one call under one stamp."""
    seeds = {one.claim.method: one.measured.seeds for one in finished}
    return {
        **stamp("claims", {"seeds": seeds, "code_sha256": code}),
        "passed": all(one.measured.passed for one in finished),
        "claims": [{**_told(one.claim), **to_json(one.measured)} for one in finished],
    }
