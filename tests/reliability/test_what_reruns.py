"""G9: a changed input reruns exactly what follows from it; where nothing changed, nothing runs."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from killed_line import SETTINGS, draw_line_cohort
from snakemake_runs import Done, run_snakemake
from synthetic import Kind, SyntheticSlide

from wsi_kd.bags.manifest import SlideRow, bare_row
from wsi_kd.cli.layout import Layout
from wsi_kd.cli.reruns import JOURNAL_NAME, STEP_KINDS, SlideChanges, schemas_written
from wsi_kd.core import provenance
from wsi_kd.settings.all import parse_settings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.steps.mask import run_mask

Record: TypeAlias = Callable[[str, object], None]
Change: TypeAlias = Callable[[Path], None]
TWO_CHUNKS = {**SETTINGS, "run": {**SETTINGS["run"], "slides_per_job": 3}}
LINE = ("mask", "tile", "embed", "split", "train", "predict", "evaluate", "report", "check_status")
JOBS = {"mask": 2, "tile": 2, "embed": 2, "train": 3, "predict": 3}
NOTHING_TO_DO_S = 60.0
"""Far above what a slow machine needs: the rules are read and every slide looked at, no job begins."""
MANIFEST, MODEL = "cohort/slides.csv", "out/models/weno/seed0/fold1/model.json"
SLIDE, ANNOTATION = "cohort/case1.tiff", "cohort/case1.geojson"


def jobs_from(step: str, **fewer: int) -> dict[str, int]:
    """The jobs of a step and of all after it; `fewer` where not all of a step are concerned."""
    line = LINE[LINE.index(step) :]
    jobs = {name: JOBS.get(name, 1) for name in (*line, *(("qc",) if "embed" in line else ()))}
    return {**jobs, **fewer}


ONE_CHUNK = {"mask": 1, "tile": 1, "embed": 1}


def replace_silently(path: Path) -> None:
    """Change the bytes of a file that keeps its size and its time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replace_slide(folder: Path) -> None:
    replace_silently(folder / SLIDE)


def copy_cohort(folder: Path) -> None:
    """Move the slides to other files with the same content and times."""
    (folder / "cohort").rename(folder / "moved")
    shutil.copytree(folder / "moved", folder / "cohort")


def exchange_labels(folder: Path) -> None:
    """Of two cases: each part still has both classes."""
    text = (folder / MANIFEST).read_text()
    for old, new in (
        ("case0.tiff,normal,", "case0.tiff,tumor,"),
        ("case1.tiff,tumor,case1.geojson", "case1.tiff,normal,"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / MANIFEST).write_text(text)


def add_sites(folder: Path) -> None:
    """A column that only what is measured and shown reads."""
    lines = (folder / MANIFEST).read_text().splitlines()
    sites = ["site", *("AB"[row % 2] for row in range(len(lines) - 1))]
    (folder / MANIFEST).write_text(
        "".join(f"{line},{site}\n" for line, site in zip(lines, sites, strict=True))
    )


def add_line(place: str) -> Change:
    def change(folder: Path) -> None:
        with (folder / place).open("a") as handle:
            handle.write("\n")

    return change


def touch(place: str) -> Change:
    return lambda folder: os.utime(folder / place)


def remove(place: str) -> Change:
    return lambda folder: (folder / place).unlink()


CHANGES: dict[str, tuple[Change, dict[str, int]]] = {
    "slide, same size and time": (replace_slide, jobs_from("mask", **ONE_CHUNK)),
    "slide, later time": (touch(SLIDE), jobs_from("mask", **ONE_CHUNK)),
    "slides copied with their times": (copy_cohort, {}),
    "slide touched, not changed": (lambda folder: (folder / SLIDE).chmod(0o640), {}),
    "annotation": (touch(ANNOTATION), jobs_from("tile", tile=1, embed=1)),
    "labels": (exchange_labels, jobs_from("tile", tile=1, embed=1)),
    "manifest, a site": (add_sites, jobs_from("evaluate")),
    "model trained anew": (
        add_line(MODEL),
        jobs_from("predict", predict=1),
    ),
    "model touched": (touch(MODEL), {}),
    "page removed": (remove("out/report/index.html"), jobs_from("report")),
    "splits removed, all made of them there": (remove("out/splits.csv"), {}),
}
KEYS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "slides.max_mpp": ("slides", {"max_mpp": 15.0}, jobs_from("mask")),
    "mask.mask_mpp": ("mask", {"mask_mpp": 9.0}, jobs_from("mask")),
    "tile.min_tissue_fraction": ("tile", {"min_tissue_fraction": 0.4}, jobs_from("tile")),
    "embed.batch_size": ("embed", {"batch_size": 7}, jobs_from("embed")),
    "split.seed": ("split", {"seed": 1}, jobs_from("split")),
    "train.epochs": ("train", {"epochs": 3}, jobs_from("train")),
    "predict.device": ("predict", {"device": "cpu"}, jobs_from("predict")),
    "evaluate.seed": ("evaluate", {"seed": 5}, jobs_from("evaluate")),
    "report.gallery_slides": ("report", {"gallery_slides": 2}, jobs_from("report")),
    "qc.thumbnail_px": ("qc", {"thumbnail_px": 100}, {"qc": 1}),
}
KINDS: dict[str, dict[str, int]] = {
    "mask": jobs_from("mask"),
    "tiles": jobs_from("tile"),
    "features": jobs_from("embed"),
    "splits": jobs_from("split"),
    "model": jobs_from("train"),
    "tile_scores": jobs_from("predict"),
    "metrics": jobs_from("evaluate"),
    "report": jobs_from("report"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_line_cohort(tmp_path_factory.mktemp("reruns") / "run")
    done = run_snakemake(folder, settings=TWO_CHUNKS)
    assert done.code == 0, done.err
    return folder


def plan_again(folder: Path, settings: Mapping[str, Any] = TWO_CHUNKS) -> Done:
    done = run_snakemake(folder, "--dry-run", settings=settings)
    assert done.code == 0, done.err
    return done


@pytest.mark.workflow
@pytest.mark.reliability
def test_every_change_reruns_exactly_what_follows(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """One case for each thing that a file of the run follows from."""
    found: dict[str, dict[str, int]] = {}
    expected: dict[str, dict[str, int]] = {}
    for name, (change, jobs) in CHANGES.items():
        folder = Path(shutil.copytree(finished, tmp_path / name))
        change(folder)
        found[name], expected[name] = plan_again(folder).jobs(), jobs
    for name, (section, values, jobs) in KEYS.items():
        settings = {**TWO_CHUNKS, section: {**TWO_CHUNKS.get(section, {}), **values}}
        found[name], expected[name] = plan_again(finished, settings).jobs(), jobs
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "patched"))
    (tmp_path / "patched").mkdir()
    for kind, jobs in KINDS.items():
        patch = f"from wsi_kd.core import provenance\nprovenance.KIND_VERSIONS[{kind!r}] = 99\n"
        (tmp_path / "patched/sitecustomize.py").write_text(patch)
        found[f"layout of {kind}"], expected[f"layout of {kind}"] = plan_again(finished).jobs(), jobs
    assert found == expected
    record_property("figure", f"G9: {len(found)} changed inputs, each reran exactly what follows from it")


@pytest.mark.workflow
@pytest.mark.reliability
def test_an_unchanged_run_has_nothing_to_do(finished: Path, record_property: Record) -> None:
    before, started = os.times(), time.perf_counter()
    done = run_snakemake(finished, settings=TWO_CHUNKS)
    seconds, after = time.perf_counter() - started, os.times()
    of_cores = after.children_user + after.children_system - before.children_user - before.children_system
    assert "Nothing to be done" in done.out + done.err
    assert done.jobs() == {}
    assert 0 < of_cores < NOTHING_TO_DO_S  # whatever else the machine does meanwhile
    record_property("figure", f"G9: unchanged, 0 jobs in {seconds:.1f} s, {of_cores:.1f} s of a core")


@pytest.fixture
def masked(tmp_path: Path, synthetic_slide: Callable[[Kind], SyntheticSlide]) -> tuple[Layout, SlideRow]:
    """One slide with its mask."""
    slide = Path(shutil.copy2(synthetic_slide("tumor").path, tmp_path))
    layout, row = Layout(tmp_path / "out"), bare_row(slide, None)
    make_mask(layout, row)
    return layout, row


def make_mask(layout: Layout, row: SlideRow) -> None:
    status, settings = layout.chunk_status("mask", 0), parse_settings({}, where="here")
    run_mask([row], masks_dir=layout.folder("mask"), status_path=status, settings=settings)


def state(layout: Layout, row: SlideRow, *, revisions_only: bool = False, record: bool = True) -> str:
    changes = SlideChanges(layout)
    found = changes.state([row], revisions_only=revisions_only)
    if record:
        changes.record()
    return found


@pytest.mark.parametrize("revisions_only", [False, True])
def test_a_slide_replaced_under_its_size_and_time_is_seen(
    masked: tuple[Layout, SlideRow], revisions_only: bool
) -> None:
    layout, row = masked
    before = state(layout, row, revisions_only=revisions_only)
    assert state(layout, row, revisions_only=revisions_only) == before
    assert (before == "") == revisions_only
    replace_silently(row.path)
    dry = state(layout, row, revisions_only=revisions_only, record=False)
    after = state(layout, row, revisions_only=revisions_only)
    assert dry == after != before
    make_mask(layout, row)
    assert state(layout, row, revisions_only=revisions_only) == after  # made anew, and not a second time
    row.path.chmod(0o640)
    assert state(layout, row, revisions_only=revisions_only) == after


def test_a_slide_that_is_only_touched_or_copied_is_the_same(masked: tuple[Layout, SlideRow]) -> None:
    layout, row = masked
    before = state(layout, row)
    row.path.chmod(0o640)
    assert state(layout, row) == before
    copied = row.path.with_name("copy")
    shutil.copy2(row.path, copied)
    copied.replace(row.path)
    assert state(layout, row) == before
    os.utime(row.path, ns=(1, 1))
    assert state(layout, row) != before


def test_unchanged_slides_are_not_read(
    masked: tuple[Layout, SlideRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 slides are looked at by every start: one stat each."""
    layout, row = masked
    state(layout, row)
    read = []
    monkeypatch.setattr("wsi_kd.slides.fingerprint.slide_fingerprint", read.append)
    written = (layout.root / JOURNAL_NAME).stat().st_mtime_ns
    state(layout, row)
    assert read == []
    assert (layout.root / JOURNAL_NAME).stat().st_mtime_ns == written


@pytest.mark.parametrize("text", ["", "[]", '{"slides": 1}', '{"slides": {"a": [1]}}'])
def test_a_damaged_journal_is_no_journal(masked: tuple[Layout, SlideRow], text: str) -> None:
    layout, row = masked
    before = state(layout, row)
    (layout.root / JOURNAL_NAME).write_text(text)
    assert state(layout, row) == before


def test_an_absent_slide_has_a_state_too(masked: tuple[Layout, SlideRow]) -> None:
    layout, row = masked
    before = state(layout, row)
    assert slide_fingerprint(row.path)
    row.path.unlink()
    assert state(layout, row) != before


def test_the_version_of_every_kind_is_in_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind whose layout has a version of its own, what a rule writes names it."""
    written = {kind for kinds in STEP_KINDS.values() for kind in kinds}
    assert set(provenance.KIND_VERSIONS) - written == {"prediction"}  # of infer, which no rule runs
    before = {step: schemas_written(step) for step in STEP_KINDS}
    monkeypatch.setitem(provenance.KIND_VERSIONS, "features", 99)
    changed = {step for step in STEP_KINDS if schemas_written(step) != before[step]}
    assert changed == {"embed", "adopt"}
