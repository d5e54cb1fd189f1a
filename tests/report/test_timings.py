"""Time and memory by step: sums, maxima, and what was not measured."""

from wsi_kd.report.page import Note, Table
from wsi_kd.report.timings import STEPS, JobTiming, duration, job_timing, timing_section


def test_steps_sum_their_jobs_and_name_the_largest():
    jobs = (
        JobTiming("train", "a", 3600.0, 1800.0, 500.4),
        JobTiming("mask", "", 30.0, None, None),
        JobTiming("train", "b", 1800.0, 60.0, 900.6),
    )
    (table,) = (block for block in timing_section(jobs).blocks if isinstance(block, Table))
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown == [
        ["mask", "1", "30.0 s", "30.0 s", "n/a", "n/a", ""],
        ["train", "2", "1 h 30 min", "1 h 0 min", "31 min 0 s", "901", "b"],
    ]
    assert [cell.number for cell in table.rows[1][1:6]] == [2.0, 5400.0, 3600.0, 1860.0, 900.6]


def test_a_run_without_measurements_says_so():
    (note,) = timing_section(()).blocks
    assert isinstance(note, Note)
    assert note.text.startswith("Not measured: the run holds no benchmark files")


def test_the_report_s_own_job_is_not_among_the_steps():
    assert "report" not in STEPS


def test_what_snakemake_could_not_measure_is_unknown():
    row = {"s": "NA", "max_rss": "nan", "cpu_time": ""}
    assert job_timing("mask", "", row) == JobTiming("mask", "", None, None, None)
    assert job_timing("mask", "", {"s": "0.5"}) == JobTiming("mask", "", 0.5, None, None)


def test_durations_do_not_show_sixty_seconds():
    assert [duration(value) for value in (59.94, 59.96, 119.6, 3599.7)] == [
        "59.9 s",
        "60.0 s",
        "2 min 0 s",
        "1 h 0 min",
    ]
