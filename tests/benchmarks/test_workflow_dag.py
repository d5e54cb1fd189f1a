"""The benchmark of the workflow's own cost: drawn cohorts are what they claim to be."""

import subprocess
import sys

import pytest
import yaml

from bench_record import measured_table
from workflow_dag import (
    COLUMNS,
    command_of_chunk,
    draw_manifest,
    draw_run,
    outputs_of,
    snakemake,
    spent,
    time_split,
)
from wsi_kd.cli.plan import read_plan

SLIDES = 40


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    config = draw_manifest(tmp_path / "cohort", SLIDES)
    monkeypatch.chdir(tmp_path / "cohort")
    (tmp_path / "cohort/my.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "cohort", config


def test_the_drawn_cohort_is_one_that_a_run_accepts(drawn):
    folder, config = drawn
    plan = read_plan(config)
    assert [len(chunk) for chunk in plan.chunks] == [16, 16, 8]
    assert len({row.case_id for row in plan.manifest.rows}) == SLIDES / 2
    assert {path.stat().st_size for path in (folder / "slides").iterdir()} == {0}
    assert command_of_chunk(plan)[1:2] == ["mask"]


def test_what_is_measured_fits_the_table():
    row = [10_000, "split", 0.34, 0.336, None, 0.0336]
    assert measured_table(COLUMNS, [row])["rows"] == [row]


def test_every_output_is_told_once(drawn):
    plan = read_plan(drawn[1])
    outputs = [str(path) for path in outputs_of(plan)]
    assert len(outputs) == len(set(outputs)) == 3 * 3 + 2 + 2 + plan.folds * 7 + 2 + 7 + 1


@pytest.mark.workflow
def test_a_drawn_run_leaves_nothing_to_do(drawn):
    folder, config = drawn
    draw_run(folder, read_plan(config))
    done = subprocess.run(snakemake(folder, "--dry-run"), capture_output=True, text=True, check=True)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_the_split_joins_all_status_tables(drawn):
    folder, config = drawn
    assert time_split(folder, config).cpu_s > 0
    assert len((folder / "split/status.csv").read_text().splitlines()) == 1 + SLIDES
    assert len((folder / "split/splits.csv").read_text().splitlines()) == 1 + SLIDES


def test_what_a_process_takes_is_that_process_alone(tmp_path):
    hungry = "x = bytearray(300 << 20); [i * i for i in range(2_000_000)]"
    took = spent([sys.executable, "-c", hungry], tmp_path)
    bare = [sys.executable, "-I", "-S", "-c"]  # starts in a hundredth of a second
    idle = spent([*bare, "import time; time.sleep(1)"], tmp_path)
    assert took.peak_mib > 300 > idle.peak_mib
    assert took.cpu_s > idle.cpu_s
    assert idle.wall_s >= 1 > idle.cpu_s


def test_a_command_that_fails_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        spent([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)
