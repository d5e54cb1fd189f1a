"""What the workflow refuses, in one line; and that its text is in good condition."""

import shutil
from pathlib import Path

import pytest
from snakemake_runs import ROOT, SETTINGS, edited, run_snakemake

pytestmark = pytest.mark.workflow


def told(done) -> list[str]:
    """The lines of standard error, Snakemake's word on its profile left out."""
    return [line for line in done.err.splitlines() if not line.startswith("Using workflow specific profile")]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            edited("tile", tile_mp=1.0),
            "wsi-kd: error: settings: unknown key 'tile.tile_mp' (did you mean 'tile_mpp'?)",
        ),
        ({**SETTINGS, "tiles": {}}, "wsi-kd: error: settings: unknown key 'tiles' (did you mean 'tile'?)"),
        (
            edited("train", epochs="many"),
            "wsi-kd: error: settings: train.epochs: input should be a valid integer, "
            "unable to parse string as an integer, found 'many'",
        ),
        (edited("run", manifest="absent.csv"), "wsi-kd: error: absent.csv: no such file"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_two(settings, line, cohort):
    done = run_snakemake(cohort, settings=settings)
    assert done.code == 2
    assert len(told(done)) == 1
    assert told(done)[0].startswith(line)


def test_no_settings_at_all_name_the_file_to_copy(cohort):
    done = run_snakemake(cohort, settings={})
    assert done.code == 2
    assert len(told(done)) == 1
    assert told(done)[0].startswith("wsi-kd: error: no settings given; copy configs/default.yaml and run: ")


def test_every_fault_of_a_manifest_is_told_at_once(cohort, tmp_path):
    folder = tmp_path / "faulty"
    shutil.copytree(cohort, folder)
    (folder / "cohort/case01_0.tiff").unlink()
    (folder / "cohort/case02_0.tiff").unlink()
    done = run_snakemake(folder)
    assert done.code == 2
    assert len(told(done)) == 1
    assert "case01_0.tiff" in told(done)[0]
    assert "case02_0.tiff" in told(done)[0]
    assert not (folder / "out").exists()


def test_drawings_and_folds_that_cannot_be_used_are_told_before_any_job(cohort, tmp_path):
    folder = tmp_path / "drawn"
    shutil.copytree(cohort, folder)
    (folder / "outlines").mkdir()
    (folder / "outlines/case00_0.geojson").write_text("{")
    (folder / "cohort/case01_0.geojson").write_text("<ASAP_Annotations>")
    done = run_snakemake(folder, settings=edited("mask", edited_dir="outlines"))
    assert (done.code, len(told(done))) == (2, 1)
    assert told(done)[0].startswith("wsi-kd: error: 2 drawings cannot be used: outlines/case00_0.geojson: ")
    assert "cohort/case01_0.geojson: not valid XML" in told(done)[0]
    (folder / "folds.csv").write_text("slide_id,fold_0\ncase00_0,train\ncase00_1,test\ncase01_0,val\n")
    done = run_snakemake(folder, settings=edited("split", given="folds.csv"))
    assert (done.code, len(told(done))) == (2, 1)
    assert "fold 0 leaks: cases in more than one part: case00 (train and test)" in told(done)[0]
    assert not (folder / "out").exists()


def test_a_job_that_fails_shows_its_one_line(cohort, tmp_path):
    folder = tmp_path / "edited"
    shutil.copytree(cohort, folder)
    (folder / "out/masks/case00_0.geojson").mkdir(parents=True)
    done = run_snakemake(folder)
    assert done.code == 1
    said = (folder / "out/logs/mask/chunk-0.log").read_text()
    assert said.startswith("wsi-kd: error: out/masks/case00_0.geojson: could not be written (Is a directory)")
    assert said.count("\n") == 1
    assert said.strip() in done.out + done.err
    assert "Traceback" not in done.out + done.err


def test_the_linter_finds_nothing(cohort):
    done = run_snakemake(cohort, "--lint")
    assert done.code == 0, done.err
    assert "good condition" in done.err + done.out


def test_the_profile_is_found_from_the_project_root():
    assert (ROOT / "profiles").readlink() == Path("workflow/profiles")
    assert (ROOT / "profiles/default/config.yaml").is_file()
