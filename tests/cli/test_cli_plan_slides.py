"""How the workflow notices a changed slide: by a hash, so that no file name reaches Snakemake."""

import os

from wsi_kd.cli.plan import read_plan


def test_a_changed_slide_is_noticed_without_its_name(cohort, tmp_path):
    for index in range(10):
        os.utime(tmp_path / f"s{index}.tif", (100 + index, 100 + index))
    plan = read_plan(cohort)
    before = [plan.slides_state(chunk) for chunk in range(3)]
    assert len({*before, plan.annotations_state(0)}) == 4
    (tmp_path / "s5.tif").write_text("other")
    assert [plan.slides_state(chunk) == before[chunk] for chunk in range(3)] == [True, False, True]
    os.utime(tmp_path / "s9.tif", (1, 1))
    assert plan.slides_state(2) != before[2]
    (tmp_path / "s9.tif").unlink()
    gone = plan.slides_state(2)
    assert gone not in {before[2], ""}


def test_slides_are_inputs_where_that_is_asked_for(cohort):
    cohort["run"]["track_slides"] = "inputs"
    plan = read_plan(cohort)
    assert [name.rsplit("/", 1)[1] for name in plan.slide_files(1)] == [
        "s4.tif",
        "s5.tif",
        "s6.tif",
        "s7.tif",
    ]
    assert (plan.slides_state(1), plan.annotations_state(1)) == ("", "")
