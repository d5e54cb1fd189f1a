"""G14: the same slides and settings give the same bytes, wherever, whenever and on however many cores."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake_runs import LIMIT_S, ROOT, SETTINGS, arguments
from stable_prints import stable_bytes, stable_prints
from synthetic import draw_cohort

from wsi_kd.core.run_lock import LOCK_NAME

NO_CHECKOUT = {"GIT_DIR": os.devnull}
"""A report names the state of the checkout, which changes when somebody edits a file meanwhile."""
PLAIN = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", **NO_CHECKOUT}
STRANGE = {
    **NO_CHECKOUT,
    "LC_ALL": "POSIX",
    "TZ": "Pacific/Chatham",
    "PYTHONHASHSEED": "4242",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "OMP_NUM_THREADS": "2",
}
"""ASCII is the encoding of what is opened without one; clocks differ by 13:45 h, sets are in other order."""
SMALL = {
    "run": {"manifest": "cohort/slides.csv", "results_dir": "out", "slides_per_job": 16},
    "tile": {"tile_px": 64, "tile_mpp": 1.0},
    "train": {"recipes": ["weno"], "epochs": 2, "hidden_dim": 8, "attention_dim": 4, "device": "cpu"},
    "evaluate": {"bootstrap_samples": 100},
    "report": {"gallery_slides": 2, "heatmap_px": 200},
}
MODEL = ("--recipe", "weno", "--seed", "0", "--fold", "0")
LINE = (
    *(("mask",), ("tile",), ("embed",), ("qc",), ("split",), ("train", *MODEL), ("predict", *MODEL)),
    *(("evaluate",), ("report",)),
)
_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execvp(sys.argv[1], sys.argv[1:])
"""
ON_ONE_CORE = (sys.executable, "-c", _ONE_CORE)
"""Put before a command."""
CHILD = """
import json, sys
from wsi_kd.cli.app import run
sys.exit(max(run([*command, "--config", sys.argv[2]]) for command in json.loads(sys.argv[1])))
"""


def surroundings(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {*PLAIN, *STRANGE, "LANG"}}
    return {**kept, **changes}


def run_in(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    """Run a command; in plain surroundings it has one core, in strange ones as many as this process."""
    done = subprocess.run(
        [*(ON_ONE_CORE if environment is PLAIN else ()), *command],
        cwd=folder,
        env=surroundings(environment),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def with_column_split(manifest: Path) -> None:
    """Put patients 0 and 1 into train, 2 and 3 into val, 4 and 5 into test: a normal and a tumor each."""
    with manifest.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row["split"] = ("train", "val", "test")[int(row["case_id"][-2:]) // 2]
    with manifest.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def differing(first: Path, second: Path) -> list[str]:
    """Names of files that differ; the lock of a run, which names a process, is not one of its files."""
    prints = stable_prints(first), stable_prints(second)
    names = {*prints[0], *prints[1]} - {LOCK_NAME}
    return sorted(name for name in names if prints[0].get(name) != prints[1].get(name))


@pytest.mark.parametrize(
    ("commands", "patients", "files"),
    [(LINE[:2], 2, 8), pytest.param(LINE, 6, 90, marks=pytest.mark.reliability)],
    ids=["mask_and_tile", "whole_line"],
)
def test_other_folder_cores_locale_time_zone_and_hash_seed_change_no_byte(
    tmp_path: Path, record_property, commands, patients, files
) -> None:
    cohort = tmp_path / "drawn"
    cohort.mkdir()
    with_column_split(draw_cohort(cohort, patients=patients).manifest)
    places = {"plain": PLAIN, "a ślide's place/deeper": STRANGE}
    for place, environment in places.items():
        folder = tmp_path / place
        shutil.copytree(cohort, folder / "cohort")
        (folder / "my.yaml").write_text(yaml.safe_dump(SMALL))
        child = [sys.executable, "-c", CHILD, json.dumps(commands), str(folder / "my.yaml")]
        run_in(folder, child, environment)
    first, second = (tmp_path / place / "out" for place in places)
    assert differing(first, second) == []
    count = len(stable_prints(first))
    assert count >= files
    record_property(
        "figure",
        f"G14: {len(commands)} steps, {count} files, other folder, cores, locale, zone, hash seed: 0 differ",
    )


@pytest.mark.reliability
@pytest.mark.workflow
def test_the_workflow_on_one_core_and_on_two_changes_no_byte(tmp_path: Path, record_property) -> None:
    cohort = tmp_path / "drawn"
    (cohort / "cohort").mkdir(parents=True)
    draw_cohort(cohort / "cohort")
    runs = {"one": (PLAIN, 1), "two/deeper": (STRANGE, 2)}
    for place, (environment, cores) in runs.items():
        folder = tmp_path / place
        shutil.copytree(cohort, folder)
        command = [*arguments(folder, SETTINGS), "--cores", str(cores)]
        run_in(ROOT, command, environment)
    first, second = (tmp_path / place / "out" for place in runs)
    assert differing(first, second) == []
    record_property(
        "figure", f"G14: {len(stable_prints(first))} files of the workflow, --cores 1 and 2: 0 differ"
    )


def test_a_changed_number_is_seen_and_a_clock_is_not(tmp_path: Path) -> None:
    for name, seconds, tiles in (("a", "1.5", "7"), ("b", "9.5", "7"), ("c", "1.5", "8")):
        folder = tmp_path / name / "features"
        folder.mkdir(parents=True)
        (folder / "chunk-0.csv").write_text(f"slide_id,tiles,seconds\ns1,{tiles},{seconds}\n")
        told = {"sha256": f"{seconds}{tiles}", "content_sha256": name, "kind": "status"}
        (folder / "chunk-0.csv.meta.json").write_text(json.dumps(told))
    assert differing(tmp_path / "a", tmp_path / "b") == []
    assert differing(tmp_path / "a", tmp_path / "c") == ["features/chunk-0.csv"]


def test_only_time_and_memory_of_a_page_are_volatile(tmp_path: Path) -> None:
    page = (
        '<section id="cohort">12</section><section id="timings">12 s</section>'
        "<tr>\n<td>Training</td><td>12 epochs</td></tr><tr>\n<td>Time and memory</td><td>12 s</td></tr>"
    )
    (tmp_path / "report").mkdir()
    path = tmp_path / "report" / "index.html"
    path.write_text(page)
    kept = stable_bytes(path).decode()
    assert kept == '<section id="cohort">12</section><tr>\n<td>Training</td><td>12 epochs</td></tr>'
