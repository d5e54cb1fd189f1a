"""Slides of several files: none is missing unnoticed, none changes unnoticed, none is a slide of its own."""

import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
from dicom_series import write_series
from drawn_scanners import DRAWN, painted
from hamamatsu_files import write_vms, write_vmu
from mirax_file import write_mirax

from wsi_kd.bags.drop_folder import files_of
from wsi_kd.bags.slide_files import slides_in
from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.dicom_header import series_of
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.hamamatsu_index import hamamatsu_parts
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.slide_parts import parts_of
from wsi_kd.slides.whole_series import series_doubt

VMS_PARTS = ("a.jpg", "a(1,0).jpg", "a_map2.jpg", "a_macro.jpg")
VMU_PARTS = ("a.ngr", "a_map.ngr", "a_macro.jpg")
SMALL = np.s_[300:428, 250:506]
"""A piece of the painted tissue, 256x128 px."""


def read(reader, x=0, y=0, size=64):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=0, width_px=size, height_px=size)


def rename_parts(path, word):
    """Call all parts of a VMS or VMU slide otherwise, in the index too, as a renamed index leaves them."""
    text = path.read_text()
    for part in hamamatsu_parts(path).values():
        part.rename(part.with_name(f"{word}{part.name}"))
        text = text.replace(f"={part.name}\n", f"={word}{part.name}\n")
    path.write_text(text)


@pytest.mark.parametrize(
    ("write", "name", "part"),
    [
        *((write_vms, "a.vms", part) for part in VMS_PARTS),
        *((write_vmu, "a.vmu", part) for part in VMU_PARTS),
    ],
)
def test_a_missing_part_of_a_hamamatsu_slide_is_named(tmp_path, write, name, part):
    path = write(tmp_path / name, painted()[SMALL])
    (tmp_path / part).unlink()
    with pytest.raises(SlideProblem) as problem:
        open_slide(path, background="metadata")
    assert problem.value.reason == (
        f"its index names 1 files that are not there ({part}); copy all files of the slide beside {name}"
    )


def test_all_missing_parts_are_counted(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    for part in VMS_PARTS[1:]:
        (tmp_path / part).unlink()
    with pytest.raises(SlideProblem, match=r"3 files that are not there \(a\(1,0\).jpg, a_map2.jpg, a_macro"):
        open_slide(path, background="metadata")


def test_what_is_missing_is_not_called_as_the_patient_is(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    rename_parts(path, "DOE^JANE ")
    with open_slide(path, background="metadata") as reader:
        assert read(reader).shape == (64, 64, 3)
    image = tmp_path / "DOE^JANE a(1,0).jpg"
    image.write_bytes(image.read_bytes()[:2000])
    with (
        open_slide(path, background="metadata") as reader,
        pytest.raises(SlideProblem, match=r"damaged at x 128, y 64 .*ImageFile\(1,0\)") as damaged,
    ):
        read(reader, 128, 64)
    assert "DOE" not in damaged.value.reason
    image.write_bytes(b"no image")
    with pytest.raises(SlideProblem, match="OpenSlide cannot open it") as unopened:
        open_slide(path, background="metadata")
    assert "DOE" not in unopened.value.reason
    image.unlink()
    with pytest.raises(SlideProblem, match=r"1 files that are not there \(ImageFile\(1,0\)\)"):
        open_slide(path, background="metadata")


def test_a_list_of_rows_is_a_help_and_no_part_that_must_be_there(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    with open_slide(path, background="metadata") as reader:
        expected = read(reader, 100, 50)
    (tmp_path / "a.opt").unlink()
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 100, 50), expected)


def test_what_is_no_text_in_an_index_is_neither_told_nor_a_hindrance(tmp_path):
    """Indexes in Shift-JIS: a key and a name that are no UTF-8, and letters that a terminal would obey."""
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    sound = path.read_bytes()
    path.write_bytes(sound + b"\x83\x8c\x83\x93=1\r\nLens=\x83\x8c\r\n")
    with open_slide(path, background="metadata") as reader:
        assert read(reader).shape == (64, 64, 3)
        assert reader.properties["hamamatsu.SourceLens"] == "20"
    path.write_bytes(sound.replace(b"=a(1,0).jpg", b"=a(\x83\x8c\x1b[31m).jpg"))
    with pytest.raises(
        SlideProblem, match=r"1 files that are not there \(a\(\?\?\?\[31m\)\.jpg\)"
    ) as problem:
        open_slide(path, background="metadata")
    assert problem.value.reason.isprintable()


def test_images_of_other_focal_planes_are_no_parts(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    path.write_text(path.read_text() + "ImageFile(1,0,0)=deep.jpg\r\nImageFile(0,1,0,0)=odd.jpg\r\n")
    assert "ImageFile(1,0,0)" not in hamamatsu_parts(path)
    assert "ImageFile(1,0)" in hamamatsu_parts(path)


def draw_parts(kind, folder):
    """A small slide of several files and one of them."""
    pixels = painted()[SMALL]
    if kind == "vms":
        return write_vms(folder / "a.vms", pixels), folder / "a(1,0).jpg"
    if kind == "vmu":
        return write_vmu(folder / "a.vmu", pixels), folder / "a.ngr"
    if kind == "mirax":
        return write_mirax(folder / "a.mrxs", pixels), folder / "a" / "Data0000.dat"
    files = write_series(folder, pixels, factors=(1, 2))
    return files[1], files[0]


@pytest.mark.parametrize("kind", ["vms", "vmu", "dicom", "mirax"])
def test_a_part_that_changes_while_the_slide_is_read_is_noticed(tmp_path, kind):
    path, part = draw_parts(kind, tmp_path)
    (tmp_path / "notes.txt").write_text("no part")
    assert part in parts_of(path)
    with open_slide(path, background="metadata") as reader:
        before = read(reader)
        (tmp_path / "notes.txt").write_text("is no part still")
        assert np.array_equal(read(reader), before)
        part.write_bytes(part.read_bytes() + b"\0")
        with pytest.raises(SlideProblem, match="replaced or changed while it was read"):
            read(reader)


@pytest.mark.parametrize("kind", ["vms", "vmu", "dicom"])
def test_a_part_with_other_bytes_is_another_slide(tmp_path, kind):
    path, part = draw_parts(kind, tmp_path)
    before = slide_fingerprint(path)
    (tmp_path / "notes.txt").write_text("no part")
    assert slide_fingerprint(path) == before
    content = bytearray(part.read_bytes())
    content[-100] ^= 1  # of the same size, as raw images always are
    part.write_bytes(content)
    assert slide_fingerprint(path) != before


def test_the_fingerprint_of_a_series_hangs_on_no_name_and_not_on_which_file_is_given(tmp_path):
    files = write_series(tmp_path, painted()[SMALL], factors=(1, 2))
    before = slide_fingerprint(files[0])
    assert {slide_fingerprint(file) for file in files} == {before}
    files[1].rename(tmp_path / "a.dcm")
    assert slide_fingerprint(files[0]) == before


def test_a_folder_lists_each_slide_once_and_no_part(tmp_path):
    for name, write in (("h.vms", write_vms), ("u.vmu", write_vmu)):
        write(tmp_path / name, painted()[SMALL])
    for series in (1, 2):
        write_series(tmp_path, painted()[SMALL], series=series, factors=(1, 2))
    others = [
        drawn.file for drawn in DRAWN.values() if Path(drawn.file).suffix not in {".vms", ".vmu", ".dcm"}
    ]
    for name in (*others, "t.Full", "t.tif-1b"):
        (tmp_path / name).write_bytes(b"is not opened")
    listed = {path.name for path in slides_in(tmp_path)}
    assert listed == {"h.vms", "u.vmu", "series1_label.dcm", "series2_label.dcm", *others}


def test_parts_with_other_names_are_waited_for(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    rename_parts(path, "scan of ")
    (tmp_path / "other.jpg").write_bytes(b"x")
    names = {file.name for file in files_of(path)}
    assert names == {"a.vms", "scan of a.opt", *(f"scan of {part}" for part in VMS_PARTS)}


def test_a_series_without_its_finest_file_is_told(tmp_path):
    files = write_series(tmp_path, painted()[SMALL], factors=(1, 2))
    with open_slide(files[1], background="metadata") as reader:
        assert (len(reader.level_dimensions), series_doubt(reader.properties)) == (2, "")
    files[0].unlink()
    with open_slide(files[1], background="metadata") as reader:
        assert reader.level_dimensions == ((128, 64),)
        assert "which is not in the folder" in series_doubt(reader.properties)


def test_the_series_is_found_wherever_it_stands(tmp_path):
    first, *_ = write_series(tmp_path, painted()[SMALL], factors=(1,))
    content = first.read_bytes()
    assert series_of(first) == b"2.25.4711.1"
    at = content.index(b"\x20\x00\x0d\x00UI")
    number = content.index(b"2.25.4711.1", content.index(b"\x20\x00\x0e\x00UI"))
    inside = 2**14 - 5 - (number - at)  # so that the first bytes end inside the number
    for before in (inside, 2**14 - 40, 2**14, 2**19):
        moved = tmp_path / "moved"
        moved.write_bytes(content[:at] + bytes(before - at) + content[at:])
        assert series_of(moved) == b"2.25.4711.1"
    (tmp_path / "short.dcm").write_bytes(content[:100])
    assert series_of(tmp_path / "short.dcm") == b""
    assert series_of(tmp_path / "nowhere.dcm") == b""


def test_two_series_in_a_folder_stay_apart(tmp_path):
    for series in (1, 2):
        write_series(tmp_path, painted()[SMALL], series=series, factors=(1, 2))
    parts = {part.name for part in parts_of(tmp_path / "series1_level1.dcm")}
    assert parts == {"series1_level2.dcm", "series1_label.dcm"}
    shutil.copy(tmp_path / "series1_level2.dcm", tmp_path / "again.dcm")
    with open_slide(tmp_path / "again.dcm", background="metadata") as reader:
        assert reader.level_dimensions == ((256, 128), (128, 64))


def test_an_index_that_declares_more_images_than_it_names_is_refused(tmp_path):
    path = write_vms(tmp_path / "a.vms", painted()[SMALL])
    path.write_text(path.read_text().replace("NoJpegColumns=2", "NoJpegColumns=40000"))
    with pytest.raises(SlideProblem, match=r"declares 40000x1 images and names 2"):
        open_slide(path, background="metadata")


def test_a_raw_image_that_declares_more_than_it_holds_is_refused(tmp_path):
    path = write_vmu(tmp_path / "a.vmu", painted()[SMALL])
    image = tmp_path / "a.ngr"
    content = bytearray(image.read_bytes())
    content[4:8] = content[12:16] = (2**30).to_bytes(4, "little")
    image.write_bytes(content)
    with pytest.raises(SlideProblem, match=r"a\.ngr declares 1073741824x128 px in columns of 1073741824 px"):
        open_slide(path, background="metadata")


@pytest.mark.parametrize(
    ("sound", "other", "told"),
    [
        ("BitsPerPixel=36", "BitsPerPixel=24", "declares 24 bits a pixel and the colors RGB"),
        ("BitsPerPixel=36", "Bits=36", "declares no bits a pixel"),
        ("PixelOrder=RGB", "PixelOrder=BGR", "36 bits a pixel and the colors BGR"),
        ("PixelOrder=RGB", "PixelOrder=", "the colors not at all"),
    ],
)
def test_raw_images_of_other_colors_never_reach_openslide(tmp_path, monkeypatch, sound, other, told):
    """OpenSlide 4.0.1 ends the process over such an index."""
    monkeypatch.setattr(openslide.OpenSlide, "detect_format", lambda _: pytest.fail("OpenSlide was asked"))
    path = write_vmu(tmp_path / "a.vmu", painted()[SMALL])
    path.write_text(path.read_text().replace(sound, other))
    with pytest.raises(SlideProblem, match=told):
        open_slide(path, background="metadata")
