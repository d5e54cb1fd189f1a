"""A column of the cohort that follows the label is told of: a score may have learned it."""

import pytest

from wsi_kd.report.subgroups import confounded


def groups(column, *counts):
    """Of each group its positives and all its slides."""
    return [{"column": column, "positives": positives, "slides": slides} for positives, slides in counts]


def test_all_tumors_from_one_scanner_are_told():
    found = groups("scanner", (10, 10), (0, 12)) + groups("site", (5, 11), (5, 11))
    told = (
        "Read with care: scanner alone calls 22 of 22 slides rightly, each group its commoner class: a score"
    )
    (text,) = confounded(found)
    assert text.startswith(told)
    assert "learned scanner and not the tissue" in text


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([(19, 20), (1, 20)], True),  # 38 of 40
        ([(17, 20), (3, 20)], False),  # 34 of 40: below nine in ten
        ([(0, 19), (1, 21)], False),  # one call for all is as good: 39 of 40
        ([(2, 2), (0, 2), (2, 2)], False),  # two slides a group fit any label
        ([(3, 3), (0, 3)], True),
        ([(0, 10), (0, 10)], False),  # one class: nothing to tell apart
    ],
)
def test_a_column_is_told_where_it_halves_the_errors_and_groups_are_no_single_slides(counts, told):
    assert (len(list(confounded(groups("site", *counts)))) == 1) is told


def test_without_groups_nothing_is_told():
    assert list(confounded([])) == []
