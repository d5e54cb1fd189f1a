"""Snakemake on a small drawn cohort: the settings, the call, and what came of it."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from synthetic import draw_cohort, draw_slide

ROOT = Path(__file__).resolve().parents[1]
ODD = {"empty": "empty", "missing_mpp": "missing_mpp", "truncated": "unreadable"}
"""Kinds of odd slides and how they end."""
SETTINGS: dict[str, Any] = {
    "run": {
        "title": "small",
        "manifest": "cohort/slides.csv",
        "results_dir": "out",
        "max_failed_slides": len(ODD),
        "slides_per_job": 8,
    },
    "tile": {"tile_px": 64, "tile_mpp": 1.0},
    "split": {"folds": 3},
    "train": {"recipes": ["weno"], "epochs": 3, "hidden_dim": 16, "attention_dim": 8},
    "evaluate": {"bootstrap_samples": 100},
    "report": {"gallery_slides": 2, "heatmap_px": 200},
}
LIMIT_S = 1800


class Done(NamedTuple):
    """What a call of snakemake left."""

    code: int
    out: str
    err: str

    def jobs(self) -> dict[str, int]:
        """Jobs by rule of the (dry) run, `all` left out."""
        stats = re.search(r"^job +count\n[- ]+\n(.*?)^total ", self.out + self.err, re.MULTILINE | re.DOTALL)
        lines = stats.group(1).splitlines() if stats else []
        counts = {name: int(count) for name, count in (line.split() for line in lines)}
        counts.pop("all", None)
        return counts


def draw_odd_cohort(folder: Path) -> Path:
    """Draw `cohort/slides.csv` there: twelve good slides and one of each odd kind; return the folder."""
    cohort = folder / "cohort"
    cohort.mkdir(parents=True)
    manifest = draw_cohort(cohort).manifest
    lines = []
    for kind in ODD:
        slide = draw_slide(cohort, kind, name=f"odd_{kind}")
        lines.append(f"odd_{kind},{slide.path.name},{slide.label},odd_{kind},A,\n")
    with manifest.open("a") as handle:
        handle.writelines(lines)
    return folder


def arguments(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Write the settings file and return the command line that runs it in `folder`."""
    (folder / "my.yaml").write_text(yaml.safe_dump(dict(settings)))
    beside = Path(sys.executable).parent / "snakemake"
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [str(beside), *place, "--configfile", str(folder / "my.yaml"), "--cores", "2"]


def run_snakemake(folder: Path, *extra: str, settings: Mapping[str, Any] = SETTINGS) -> Done:
    """Run the workflow in `folder` and wait for it."""
    done = subprocess.run(
        [*arguments(folder, settings), *extra], capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    return Done(done.returncode, done.stdout, done.stderr)


def edited(section: str, **values: Any) -> dict[str, Any]:
    """The settings with some keys of one section replaced."""
    return {**SETTINGS, section: {**SETTINGS.get(section, {}), **values}}
