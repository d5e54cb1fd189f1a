"""A cohort of empty slides, for what only plans."""

import pytest


@pytest.fixture
def cohort(tmp_path):
    """The settings of ten of them, in three jobs."""
    rows = [f"s{index},s{index}.tif,{'normal' if index % 2 else 'tumor'},p{index}" for index in range(10)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label,case_id", *rows]) + "\n")
    for index in range(10):
        (tmp_path / f"s{index}.tif").touch()
    return {"run": {"manifest": str(tmp_path / "slides.csv"), "slides_per_job": 4, "results_dir": "out"}}
