"""The whole line on six drawn slides, step by step, each as one command; and trees of files to compare."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from command_server import CommandServer, Ended
from synthetic import draw_slide

from wsi_kd.core.leftovers import HIDDEN

SETTINGS: dict[str, Any] = {
    "run": {"manifest": "cohort/slides.csv", "results_dir": "out", "title": "first"},
    "tile": {"tile_px": 128, "tile_mpp": 1.0},
    "split": {"folds": 3},
    "train": {"recipes": ["weno"], "epochs": 2, "hidden_dim": 8, "attention_dim": 4},
    "evaluate": {"bootstrap_samples": 100},
    "report": {"gallery_slides": 1, "heatmap_px": 100},
    "qc": {"thumbnail_px": 128},
}
OTHER_SETTINGS: dict[str, Any] = {
    **SETTINGS,
    "run": {**SETTINGS["run"], "title": "second"},
    "mask": {"mask_mpp": 9.0},
    "tile": {**SETTINGS["tile"], "min_tissue_fraction": 0.4},
    "embed": {"batch_size": 7},
    "split": {"folds": 3, "seed": 5},
    "train": {**SETTINGS["train"], "epochs": 3},
    "evaluate": {"bootstrap_samples": 101},
    "qc": {"thumbnail_px": 100},
}
"""Another run of the same cohort: every file of it differs."""
_CONFIG = ("--config", "my.yaml")
_MODEL = ("--recipe", "weno", "--seed", "0", "--fold")
STEPS: dict[str, tuple[str, ...]] = {
    **{step: (step, *_CONFIG) for step in ("mask", "tile", "embed", "split")},
    "train": ("train", *_CONFIG, *_MODEL, "0"),
    "train fold 1": ("train", *_CONFIG, *_MODEL, "1"),
    "train fold 2": ("train", *_CONFIG, *_MODEL, "2"),
    "predict": ("predict", *_CONFIG, *_MODEL, "0"),
    "predict fold 1": ("predict", *_CONFIG, *_MODEL, "1"),
    "predict fold 2": ("predict", *_CONFIG, *_MODEL, "2"),
    **{step: (step, *_CONFIG) for step in ("evaluate", "report", "qc")},
    "infer": (
        "infer",
        "cohort/case1.tiff",
        "--model",
        "out/models/weno/seed0/fold0",
        "--out",
        "out/inferred",
    ),
}
TRIED = tuple(step for step in STEPS if " " not in step)
"""Steps that are killed and failed; the other folds do what the first does."""
UNTIL_PREDICT = tuple(STEPS)[: tuple(STEPS).index("evaluate")]
TOLD_BY_CLOCKS = {"seconds", "energy", "sha256", "content_sha256"}
"""Members of JSON files that differ between any two runs, and the hashes over them."""
UNFINISHED = {"state.safetensors"}
"""What a training leaves to go on from, until it ends."""


class Line(NamedTuple):
    """A finished line in `folder`: what each step wrote, and how long it took."""

    folder: Path
    wrote: dict[str, tuple[str, ...]]
    seconds: dict[str, float]
    tree: dict[str, str]
    """Hash of each file below `out` without what a clock told, by its place."""


def draw_line_cohort(folder: Path) -> Path:
    """Draw six slides of six patients with their manifest; return the folder."""
    (folder / "cohort").mkdir(parents=True)
    rows = [["slide_id", "path", "label", "annotation"]]
    for case in range(6):
        slide = draw_slide(
            folder / "cohort", "tumor" if case % 2 else "normal", name=f"case{case}", seed=case
        )
        rows.append([f"case{case}", slide.path.name, slide.label, slide.annotation.name if case % 2 else ""])
    with (folder / "cohort/slides.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder


def prepare(folder: Path, cohort: Path, settings: Mapping[str, Any] = SETTINGS) -> Path:
    """Make a folder where the line can be run."""
    folder.mkdir()
    (folder / "cohort").symlink_to(cohort / "cohort")
    (folder / "my.yaml").write_text(yaml.safe_dump(dict(settings)))
    return folder


def make_line(
    server: CommandServer,
    folder: Path,
    *,
    cohort: Path,
    settings: Mapping[str, Any] = SETTINGS,
    steps: tuple[str, ...] = tuple(STEPS),
    written: Path | None = None,
) -> Line:
    """Run the line to its end in a new folder."""
    prepare(folder, cohort, settings)
    wrote: dict[str, tuple[str, ...]] = {}
    seconds: dict[str, float] = {}
    for step in steps:
        before = set(files_below(folder / "out"))
        ended = server.run(STEPS[step], cwd=folder, written=written)
        assert ended.code == 0, f"{step}: {ended.err}"
        wrote[step] = tuple(sorted(set(files_below(folder / "out")) - before))
        seconds[step] = ended.seconds
    return Line(folder, wrote, seconds, tree_of(folder))


def before_step(line: Line, step: str, folder: Path, *, former: Line | None = None) -> Path:
    """Make a folder as it is before `step`; of what the step writes it holds what stood in `former`.

    Files are links to the line's own: who writes into a file, and not a new one, changes the line.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for name in ("cohort", "my.yaml"):
        (folder / name).symlink_to(line.folder / name)
    earlier = list(line.wrote)[: list(line.wrote).index(step)]
    for name in [name for one in earlier for name in line.wrote[one]]:
        _link(line.folder / "out" / name, folder / "out" / name)
    for name in () if former is None else former.wrote[step]:
        _link(former.folder / "out" / name, folder / "out" / name)
    return folder


def run_step(server: CommandServer, step: str, folder: Path, **how: Any) -> Ended:
    """Run a step's command there."""
    return server.run(STEPS[step], cwd=folder, **how)


def tree_of(folder: Path) -> dict[str, str]:
    """Hash every file below `out`, hidden ones too, without what a clock told."""
    out = folder / "out"
    return {name: _hash(out / name) for name in files_below(out)}


def hidden_in(names: Mapping[str, str]) -> list[str]:
    """The temporary files among them."""
    return [name for name in names if any(part.startswith(HIDDEN) for part in Path(name).parts)]


def files_below(folder: Path) -> list[str]:
    """Places of all files below a folder."""
    return [str(Path(root, name).relative_to(folder)) for root, _, names in os.walk(folder) for name in names]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)


def _hash(path: Path) -> str:
    return hashlib.sha256(_without_clock(path.name, path.read_bytes())).hexdigest()


def _without_clock(name: str, content: bytes) -> bytes:
    """Blank what a clock told, as docs/reliability.md lists it: seconds, and the hashes over them."""
    if name in {"status.csv", "chunk-0.csv"}:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return json.dumps([{**row, "seconds": ""} for row in rows]).encode()
    if name in {"status.csv.meta.json", "chunk-0.csv.meta.json", "prediction.json"}:
        told = json.loads(content)
        return json.dumps({**told, **dict.fromkeys(TOLD_BY_CLOCKS & told.keys(), "")}).encode()
    return content
