"""When a slide in a drop folder has come in whole; the clock is a number here."""

import os

import pytest

from wsi_kd.bags.drop_folder import DropFolder, files_of, signature_of
from wsi_kd.core.errors import BadInput

SETTLE = 10.0


def follow(folder, *, recursive=False):
    return DropFolder(folder, recursive=recursive, settle_seconds=SETTLE)


def test_a_slide_is_let_through_once_after_it_was_still(tmp_path):
    slide = tmp_path / "s.svs"
    slide.write_bytes(b"abc")
    drop = follow(tmp_path)
    assert drop.still(0.0) == []
    assert drop.still(9.9) == []
    assert drop.waiting == 1
    assert drop.still(10.0) == [slide]
    assert drop.still(1000.0) == []
    assert drop.waiting == 0


def test_a_growing_file_waits_from_its_last_change(tmp_path):
    slide = tmp_path / "s.svs"
    drop = follow(tmp_path)
    for now in range(0, 40, 5):
        with slide.open("ab") as handle:
            handle.write(b"more")
        assert drop.still(float(now)) == []
    assert drop.still(44.0) == []
    assert drop.still(45.0) == [slide]


def test_a_time_that_changes_alone_counts_and_an_old_one_does_not_help(tmp_path):
    """A copy keeps its source's time, years back; a scanner may write into a file of full size."""
    slide = tmp_path / "s.svs"
    slide.write_bytes(b"abc")
    os.utime(slide, ns=(10**9, 10**9))
    drop = follow(tmp_path)
    assert drop.still(0.0) == []
    os.utime(slide, ns=(2 * 10**9, 2 * 10**9))
    assert drop.still(10.0) == []
    assert drop.still(20.0) == [slide]


def test_a_slide_that_changes_comes_again(tmp_path):
    slide = tmp_path / "s.svs"
    slide.write_bytes(b"abc")
    drop = follow(tmp_path)
    drop.still(0.0)
    assert drop.still(10.0) == [slide]
    slide.write_bytes(b"another scan")
    assert drop.still(20.0) == []
    assert drop.still(30.0) == [slide]


def test_empty_hidden_and_unfinished_names_are_no_slides_yet(tmp_path):
    for name, content in {
        "empty.svs": b"",
        ".s.svs.Xq1": b"x",
        "s.svs.part": b"x",
        "label.jpg": b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
    drop = follow(tmp_path)
    drop.still(0.0)
    assert drop.still(100.0) == []


def test_a_slide_that_does_not_open_is_put_off_ever_longer_and_then_let_through(tmp_path):
    slide = tmp_path / "s.svs"
    slide.write_bytes(b"abc")
    drop = follow(tmp_path)
    looked = []
    for now in range(0, 400):
        if drop.still(float(now)):
            looked.append(now)
            if not drop.wait_more(slide, float(now)):
                break
    assert looked == [10, 20, 40, 80, 160]  # 16 times the stillness: it is scored as it is, and fails


def test_a_slide_of_many_files_waits_for_all(tmp_path):
    slide = tmp_path / "m.mrxs"
    slide.write_bytes(b"x")
    (tmp_path / "m").mkdir()
    drop = follow(tmp_path)
    drop.still(0.0)
    (tmp_path / "m/Data0001.dat").write_bytes(b"pixels")
    assert drop.still(10.0) == []
    with (tmp_path / "m/Data0001.dat").open("ab") as handle:
        handle.write(b"more")
    assert drop.still(19.0) == []
    assert drop.still(28.0) == []
    assert drop.still(29.0) == [slide]


@pytest.mark.parametrize(
    ("slide", "parts", "others"),
    [
        ("m.mrxs", ["m/Slidedat.ini", "m/Data0.dat"], ["n/Data0.dat"]),
        ("z.ome.zarr", ["z.ome.zarr/.zattrs", "z.ome.zarr/0/0"], ["z.txt"]),
        ("1.dcm", ["1.dcm", "2.dcm"], ["notes.txt"]),
        ("v.vms", ["v.vms", "v(0,1).jpg", "v_map2.jpg"], ["w(0,1).jpg"]),
        ("s.svs", ["s.svs"], ["s.xml"]),
    ],
)
def test_which_files_a_slide_consists_of(tmp_path, slide, parts, others):
    for name in [*parts, *others, *([] if slide.endswith("zarr") else [slide])]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    expected = {tmp_path / name for name in parts} | ({tmp_path / slide} if slide[0] == "m" else set())
    assert set(files_of(tmp_path / slide)) == expected
    before = signature_of(tmp_path / slide)
    (tmp_path / others[0]).write_bytes(b"changed")
    assert signature_of(tmp_path / slide) == before
    (tmp_path / parts[-1]).write_bytes(b"changed")
    assert signature_of(tmp_path / slide) != before


def test_subfolders_count_where_asked(tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case/s.svs").write_bytes(b"x")
    for recursive, expected in ((False, []), (True, [tmp_path / "case/s.svs"])):
        drop = follow(tmp_path, recursive=recursive)
        drop.still(0.0)
        assert drop.still(10.0) == expected


def test_a_folder_that_goes_away_is_waited_for(tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (share / "s.svs").write_bytes(b"abc")
    drop = follow(share)
    drop.still(0.0)
    share.rename(tmp_path / "away")
    assert drop.still(10.0) == []
    (tmp_path / "away").rename(share)
    assert drop.still(20.0) == []
    assert drop.still(30.0) == [share / "s.svs"]


def test_an_absent_folder_is_told_and_an_empty_one_is_waited_for(tmp_path):
    assert follow(tmp_path, recursive=True).still(0.0) == []
    with pytest.raises(BadInput, match="no such folder"):
        follow(tmp_path / "gone").still(0.0)
