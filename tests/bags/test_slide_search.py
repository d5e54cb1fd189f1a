"""Folders with all below them and quoted patterns, down to slides."""

from pathlib import Path

import pytest

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.bags.slide_search import given_paths, is_pattern, slides_below
from wsi_kd.core.errors import BadInput


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def named(folder, paths):
    return [str(path.relative_to(folder)) for path in paths]


def test_a_tree_holds_its_slides_in_order(tmp_path):
    make(tmp_path, "b/two.ndpi", "a/x/one.svs", "three.tif", "notes.txt", ".hidden/no.svs", "a/x/.no.svs")
    assert named(tmp_path, slides_below(tmp_path)) == ["three.tif", "a/x/one.svs", "b/two.ndpi"]


def test_pictures_are_slides_only_where_the_tree_has_no_other_kind(tmp_path):
    make(tmp_path, "thumbs/s.jpg", "s.svs")
    assert named(tmp_path, slides_below(tmp_path)) == ["s.svs"]
    make(tmp_path / "other", "thumbs/s.jpg")
    assert named(tmp_path, slides_below(tmp_path / "other")) == ["other/thumbs/s.jpg"]


def test_what_infer_wrote_and_the_inside_of_slides_is_passed_over(tmp_path):
    make(tmp_path, "in/s.png", "out/s/prediction.json", "out/s/heatmap.png", "in/z.ome.zarr/0/c.tif")
    make(tmp_path, "in/m.mrxs", "in/m/Data0001.dat")
    assert named(tmp_path, slides_below(tmp_path)) == ["in/m.mrxs", "in/z.ome.zarr"]


def test_a_pattern_stands_for_the_slides_it_matches(tmp_path):
    make(tmp_path, *(f"case{number}/s{number}.svs" for number in range(3)), "case1/s1.xml", "case1/.h.svs")
    assert named(tmp_path, given_paths([tmp_path / "case*/*.svs"])) == [
        "case0/s0.svs",
        "case1/s1.svs",
        "case2/s2.svs",
    ]
    assert named(tmp_path, given_paths([tmp_path / "**/s[02].*"])) == ["case0/s0.svs", "case2/s2.svs"]
    assert named(tmp_path, given_paths([tmp_path / "*1/*", tmp_path / "case1/s1.svs"])) == ["case1/s1.svs"]


def test_a_pattern_from_here_is_relative_to_here(tmp_path, monkeypatch):
    make(tmp_path, "a.svs", "b.svs")
    monkeypatch.chdir(tmp_path)
    assert given_paths([Path("*.svs")]) == [Path("a.svs"), Path("b.svs")]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    make(tmp_path, "s[1].svs", "s1.svs")
    assert not is_pattern(tmp_path / "s[1].svs")
    assert given_paths([tmp_path / "s[1].svs"]) == [tmp_path / "s[1].svs"]


@pytest.mark.parametrize("pattern", ["*.svs", "gone/*.svs", "**/*.ndpi"])
def test_a_pattern_without_slides_is_named(tmp_path, pattern):
    make(tmp_path, "notes.txt")
    with pytest.raises(BadInput, match="no slide has a name like this"):
        given_paths([tmp_path / pattern])


def test_folders_are_searched_below_only_where_asked(tmp_path):
    make(tmp_path, "case1/s1.svs")
    with pytest.raises(BadInput, match=r"--recursive"):
        rows_of_slides([tmp_path], None)
    assert [row.slide_id for row in rows_of_slides([tmp_path], None, recursive=True)] == ["s1"]
    with pytest.raises(BadInput, match="no slide in this folder or below it"):
        rows_of_slides([make(tmp_path / "empty", "notes.txt")], None, recursive=True)


def test_equal_names_in_two_subfolders_need_ids(tmp_path):
    make(tmp_path, "case1/s.svs", "case2/s.svs")
    with pytest.raises(BadInput, match="slides with the same id"):
        rows_of_slides([tmp_path], None, recursive=True)


def test_a_table_without_paths_is_not_sent_to_an_option_that_infer_lacks(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("slide_id,file\nx,y\n")
    with pytest.raises(BadInput, match=r"no column path; found 'slide_id', 'file'$"):
        rows_of_slides([table], None)
