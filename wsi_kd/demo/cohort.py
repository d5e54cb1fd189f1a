"""The demo cohort: patients with one or two slides, half of them with tumor, and four odd slides."""

import csv
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish
from wsi_kd.core.progress import progress
from wsi_kd.demo.slide import NEGATIVE, POSITIVE, DrawnSlide, Oddity, SlidePlan, draw_slide, use_one_thread
from wsi_kd.demo.stains import draw_stain

ODDITIES: tuple[tuple[Oddity, str], ...] = (
    ("empty", NEGATIVE),
    ("missing_mpp", NEGATIVE),
    ("truncated", POSITIVE),
    ("transparent", POSITIVE),
)
"""The odd slides and their labels; each is a patient of its own. The transparent one is usable."""
FEWEST_SLIDES = 8
TWO_SLIDE_SHARE = 0.3
"""Share of slide pairs that become a patient pair with two slides each."""
SITES = ("north", "south")
COLUMNS = ("slide_id", "path", "label", "case_id", "site", "annotation")


def draw_cohort(out_dir: Path, *, slides: int = 44, seed: int = 0, workers: int = 1) -> Path:
    """Draw the cohort below `out_dir` and return its manifest `slides.csv`, written last.

    Patients come in pairs, one normal, one with tumor, of the same site and number of slides. Stain,
    brightness and the make-up of the benign tissue are drawn without regard to the label. The same seed and
    library versions give the same bytes.

    Args:
        out_dir: gets `slides/<slide_id>.tiff`, `annotations/<slide_id>.geojson` and `slides.csv`.
        slides: all slides, four odd ones among them; even, at least 8.
        seed: of everything that is drawn.
        workers: processes.

    Raises:
        BadInput: `slides` or `workers` is out of range.
        RunFailed: a file cannot be written.
    """
    if slides < FEWEST_SLIDES or slides % 2:
        raise BadInput(f"slides: expected an even number of at least {FEWEST_SLIDES}, found {slides}")
    if workers < 1:
        raise BadInput(f"workers: expected at least 1, found {workers}")
    plans = plan_cohort(slides=slides, seed=seed)
    drawn = {}
    with progress("demo-cohort", total=len(plans), unit="slides") as advance:
        for slide_id, files in _draw_all(plans, out_dir, workers=workers):
            drawn[slide_id] = files
            advance(slide_id=slide_id, note="drawn")
    return _write_manifest(out_dir, plans, drawn)


def plan_cohort(*, slides: int, seed: int) -> tuple[SlidePlan, ...]:
    """Plan every slide: the good ones patient by patient, then the odd ones."""
    pairs = (slides - len(ODDITIES)) // 2
    double = round(TWO_SLIDE_SHARE * pairs)
    plans: list[SlidePlan] = []
    for pair in range(pairs - double):
        for member, label in enumerate((NEGATIVE, POSITIVE)):
            for copy in range(2 if pair < double else 1):
                case = 2 * pair + member
                plans.append(_plan(case, copy, label=label, seed=seed, oddity=""))
    for index, (oddity, label) in enumerate(ODDITIES):
        plans.append(_plan(2 * (pairs - double) + index, 0, label=label, seed=seed, oddity=oddity))
    return tuple(plans)


def _plan(case: int, copy: int, *, label: str, seed: int, oddity: Oddity) -> SlidePlan:
    site = case // 2 % len(SITES)
    return SlidePlan(
        slide_id=f"demo_{case:03d}_{'ab'[copy]}",
        case_id=f"demo_{case:03d}",
        label=label,
        site=SITES[site],
        seed=(seed, case, copy, 0),
        stain=draw_stain(np.random.default_rng((seed, case, copy, 1)), site=site),
        oddity=oddity,
    )


def _draw_all(plans: Sequence[SlidePlan], out_dir: Path, *, workers: int) -> Iterator[tuple[str, DrawnSlide]]:
    """Yield each slide's id and files as it is finished; the first failure stops the rest."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=use_one_thread) as pool:
        jobs = {pool.submit(draw_slide, plan, out_dir): plan.slide_id for plan in plans}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_manifest(out_dir: Path, plans: Sequence[SlidePlan], drawn: dict[str, DrawnSlide]) -> Path:
    manifest = out_dir / "slides.csv"
    with publish(manifest) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for plan in plans:
            slide, annotation = drawn[plan.slide_id]
            named = "" if annotation is None else annotation.relative_to(out_dir).as_posix()
            path = slide.relative_to(out_dir).as_posix()
            writer.writerow((plan.slide_id, path, plan.label, plan.case_id, plan.site, named))
    return manifest
