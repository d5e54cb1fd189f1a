"""workflow/profiles/s3: slides in a bucket of a server of our own (moto), results beside the run."""

from pathlib import Path

import pytest
from cluster_buckets import BUCKET, FOLDER, Bucket, copies_in, rows_of, without_slides
from cluster_runs import contents, run_here
from snakemake_runs import ROOT, Done

pytestmark = pytest.mark.cluster


def run(folder: Path, bucket: Bucket, *extra: str) -> Done:
    profile = ["--workflow-profile", str(ROOT / "workflow/profiles/s3")]
    return run_here(folder, *profile, *extra, variables=bucket.variables)


@pytest.fixture(scope="module")
def fetched(bucket, small_cohort, tmp_path_factory) -> tuple[Path, Done]:
    folder = without_slides(small_cohort, tmp_path_factory.mktemp("s3") / "run")
    return folder, run(folder, bucket)


def test_a_run_on_slides_in_storage_equals_one_on_local_slides(fetched, local_run, record_property):
    folder, done = fetched
    assert done.code == 0, done.err
    left, expected = contents(folder / "out"), contents(local_run / "out")
    assert sorted(left) == sorted(expected)
    assert [name for name in left if left[name] != expected[name]] == []
    record_property("figure", f"S3: slides in a bucket; {len(left)} files equal to a local run's, 0 differ")


def test_no_slide_stays_behind(fetched):
    folder, done = fetched
    assert done.out.count("Removing local copy") + done.err.count("Removing local copy") > 0
    assert copies_in(folder) == []


def test_a_second_run_has_nothing_to_do(fetched, bucket):
    done = run(fetched[0], bucket)
    assert done.code == 0
    assert "Nothing to be done" in done.out + done.err


def test_another_object_under_the_address_reruns_its_own_chunk(fetched, bucket, small_cohort):
    row = rows_of(small_cohort)[0]
    bucket.client.upload_file(str(small_cohort / "cohort" / row["path"]), BUCKET, f"{FOLDER}/{row['path']}")
    jobs = run(fetched[0], bucket, "--dry-run").jobs()
    assert {step: jobs[step] for step in ("mask", "tile", "embed")} == {"mask": 1, "tile": 1, "embed": 1}


def test_an_object_that_is_not_there_is_named_before_any_job(bucket, small_cohort, tmp_path):
    folder = without_slides(small_cohort, tmp_path / "run")
    manifest = folder / "cohort/slides.csv"
    manifest.write_text(manifest.read_text().replace("case00_0.tiff", "nowhere.tiff"))
    done = run(folder, bucket)
    assert done.code == 1
    assert f"s3://{BUCKET}/{FOLDER}/nowhere.tiff" in done.out + done.err
    assert not (folder / "out/masks").exists()
