"""Which columns become subgroups."""

from pathlib import Path

import pytest

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.steps.evaluated_groups import group_columns, scanner_of


def manifest(**columns):
    """One slide a value; every keyword is a column."""
    count = len(next(iter(columns.values())))
    rows = []
    for index in range(count):
        extra = tuple((name, values[index]) for name, values in columns.items() if name != "site")
        site = columns.get("site", [""] * count)[index]
        name = f"s{index}"
        rows.append(SlideRow(name, Path(name), "x", name, "", None, None, site, extra))
    return Manifest(tuple(rows), ("x", "y"))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"vendor": "hamamatsu", "scanner": "NanoZoomer"}, "hamamatsu NanoZoomer"),
        ({"vendor": "Leica", "scanner": "Leica Aperio GT450"}, "Leica Aperio GT450"),
        ({"vendor": "generic-tiff", "scanner": ""}, "generic-tiff"),
        ({}, ""),
    ],
)
def test_a_scanner_is_named_once(facts, told):
    assert scanner_of({"facts": facts}) == told


def test_columns_that_tell_slides_apart_are_taken_and_others_need_asking():
    found = manifest(
        site=["a", "b", "a"], batch=["1", "1", ""], stain=["he", "he", "he2"], empty=["", "", ""]
    )
    assert group_columns(found, scanners={}, wanted=None) == {
        "site": {"s0": "a", "s1": "b", "s2": "a"},
        "stain": {"s0": "he", "s1": "he", "s2": "he2"},
    }
    assert group_columns(found, scanners={}, wanted=["batch"]) == {"batch": {"s0": "1", "s1": "1", "s2": ""}}


def test_twenty_values_are_a_group_and_twenty_one_are_names():
    for count, taken in ((20, ["block"]), (21, [])):
        found = manifest(block=[str(index) for index in range(count)])
        assert list(group_columns(found, scanners={}, wanted=None)) == taken
    assert list(group_columns(found, scanners={}, wanted=["block"])) == ["block"]


def test_sites_and_scanners_are_groups_however_many_there_are():
    found = manifest(site=[str(index) for index in range(40)])
    scanners = {row.slide_id: f"maker {row.slide_id}" for row in found.rows}
    assert list(group_columns(found, scanners=scanners, wanted=None)) == ["site", "scanner"]


def test_scanners_come_from_the_slides_unless_the_manifest_names_them():
    told = {"s0": "aperio", "s1": "leica"}
    assert group_columns(manifest(site=["", ""]), scanners=told, wanted=None) == {"scanner": told}
    named = manifest(scanner=["A", "B"])
    assert group_columns(named, scanners=told, wanted=None) == {"scanner": {"s0": "A", "s1": "B"}}


def test_an_unknown_column_is_refused_with_the_nearest_one():
    with pytest.raises(BadInput, match=r"unknown column 'Site'.*did you mean 'site'"):
        group_columns(manifest(site=["a", "b"]), scanners={}, wanted=["Site"])
