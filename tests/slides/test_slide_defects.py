"""Every damage of a slide is named where it lies, is never shown as white glass, and spoils nothing else."""

import os
import pickle
import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile
from mirax_file import write_mirax
from PIL import Image

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tiff_reader import open_tiff

SIDE, TILE = 256, 64
SPOILED = (130, 70)
"""A corner inside the tile at column 2, row 1."""


@pytest.fixture(scope="module")
def drawn():
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def read(reader, x=0, y=0, size=SIDE):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=0, width_px=size, height_px=size)


def spoil(path, damage, *, index=SIDE // TILE + 2):
    """Damage one stored piece of the first page."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if damage == "truncated":
            tag = page.tags["TileByteCounts"]
            tag.overwrite([*tag.value[:index], size // 2, *tag.value[index + 1 :]])
            return
    keep = {"zeroed": 0, "half zeroed": size // 2}[damage]
    with path.open("r+b") as handle:
        handle.seek(offset + keep)
        handle.write(bytes(size - keep))


CODECS = {
    "jpeg": {"compression": "jpeg"},
    "jpeg2000": {"compression": "jpeg2000"},
    "deflate": {"compression": "deflate"},
    "lzw": {"compression": "lzw"},
    "png": {"compression": "png"},
    "jpegxl": {"compression": "jpegxl"},
}


@pytest.mark.parametrize("damage", ["zeroed", "half zeroed", "truncated"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_tile_is_named_and_the_next_read_works(tmp_path, drawn, codec, damage):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, drawn, tile=(TILE, TILE), photometric="rgb", metadata=None, **CODECS[codec])
    with open_tiff(path, background="metadata") as reader:
        whole = read(reader)
    spoil(path, damage)
    with open_tiff(path, background="metadata") as reader:
        for _ in range(2):
            with pytest.raises(SlideProblem, match="damaged at x 130, y 70") as problem:
                read(reader, *SPOILED, size=20)
            assert problem.value.status == SlideStatus.UNREADABLE
            assert np.array_equal(read(reader, 0, 0, size=100)[:64], whole[:64, :100])


@pytest.mark.parametrize("damage", ["zeroed", "truncated"])
def test_openslide_names_damaged_jpeg_tiles_too(tmp_path, drawn, damage):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, drawn, tile=(TILE, TILE), photometric="rgb", compression="jpeg", metadata=None)
    spoil(path, damage)
    with open_slide(path, background="metadata") as reader:
        assert reader.format == "openslide/generic-tiff"
        with pytest.raises(SlideProblem, match="damaged at x 130, y 70"):
            read(reader, *SPOILED, size=20)
        assert (read(reader, 0, 0, size=60) != 255).any()


@pytest.mark.parametrize("plane", [0, 2])
def test_one_damaged_color_plane_is_damage(tmp_path, drawn, plane):
    path = tmp_path / "slide.tif"
    planes = np.moveaxis(drawn, -1, 0)
    options = {"planarconfig": "separate", "compression": "deflate", "metadata": None}
    tifffile.imwrite(path, planes, tile=(TILE, TILE), photometric="rgb", **options)
    spoil(path, "zeroed", index=plane * (SIDE // TILE) ** 2 + SIDE // TILE + 2)
    with open_tiff(path, background="metadata") as reader:
        with pytest.raises(SlideProblem, match="damaged at x 130"):
            read(reader, *SPOILED, size=20)
        assert np.array_equal(read(reader, 0, 0, size=64), drawn[:64, :64])


@pytest.mark.parametrize("ome", [True, False])
def test_bytes_that_lie_behind_the_end_of_the_file_are_damage(tmp_path, drawn, ome):
    """A copy that was broken off: the directory is whole, the last tiles are not there."""
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path, ome=ome) as tiff:
        tiff.write(drawn, tile=(TILE, TILE), photometric="rgb", compression="deflate")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 0, 0, size=64), drawn[:64, :64])
        with pytest.raises(SlideProblem, match="damaged at x 200, y 200"):
            read(reader, 200, 200, size=30)


@pytest.mark.parametrize("use", [open_slide, open_tiff])
def test_tiles_without_bytes_were_never_scanned_and_are_background(tmp_path, drawn, use):
    """Byte count 0 is how Philips, GDAL and others store glass: the one kind of tile shown as background."""
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, drawn, tile=(TILE, TILE), photometric="rgb", compression="deflate", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            values = list(tiff.pages[0].tags[name].value)
            values[SIDE // TILE + 2] = 0
            tiff.pages[0].tags[name].overwrite(values)
    with use(path, background="metadata") as reader:
        assert (read(reader, 128, 64, size=64) == 255).all()
        assert np.array_equal(read(reader, 64, 64, size=64), drawn[64:128, 64:128])


def reason_of(path):
    """Why a slide cannot be read, or nothing."""
    try:
        with open_slide(path, background="metadata") as reader:
            read(reader, size=SIDE)
    except SlideProblem as problem:
        return problem.reason
    return ""


@pytest.mark.parametrize("fault", ["truncated", "garbled"])
def test_no_damage_of_a_tiff_ends_in_a_traceback(tmp_path, drawn, fault):
    rng = np.random.default_rng(1)
    path = tmp_path / "whole.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(drawn, subifds=1, tile=(TILE, TILE), photometric="rgb", compression="lzw")
        tiff.write(drawn[::2, ::2], subfiletype=1, tile=(TILE, TILE), photometric="rgb", compression="lzw")
    content = np.frombuffer(path.read_bytes(), np.uint8)
    reasons = []
    for number in range(60):
        damaged = content.copy()
        if fault == "truncated":
            damaged = damaged[: int(rng.integers(1, len(content)))]
        else:  # headers and directories lie at both ends
            places = np.concatenate([rng.integers(0, 3000, 12), len(content) - rng.integers(1, 3000, 12)])
            damaged[places] = rng.integers(0, 256, len(places))
        broken = tmp_path / f"{number}.tif"
        broken.write_bytes(damaged.tobytes())
        reasons.append(reason_of(broken))
    assert sum(bool(reason) for reason in reasons) > 20
    assert not any("\n" in reason for reason in reasons)


def replace(path, content):
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def overwrite(path, content):
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # file systems with coarse clocks


@pytest.mark.parametrize("change", [replace, overwrite])
@pytest.mark.parametrize("ending", ["openslide", "tifffile", "pillow"])
def test_a_slide_that_is_replaced_while_it_is_read_gives_no_mixed_pixels(tmp_path, drawn, ending, change):
    path = tmp_path / "slide.tif"
    if ending == "pillow":
        Image.fromarray(drawn).save(path, format="PNG")
    else:
        tile = (TILE, TILE) if ending == "openslide" else None
        tifffile.imwrite(path, drawn, tile=tile, photometric="rgb", metadata=None)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 0, 0, size=64), drawn[:64, :64])
        change(path, path.read_bytes()[::-1])
        with pytest.raises(SlideProblem, match="replaced or changed while it was read"):
            read(reader, 64, 64, size=64)
        with pytest.raises(SlideProblem, match="replaced or changed while it was read"):
            pickle.loads(pickle.dumps(reader))


def test_a_slide_that_vanishes_while_it_is_read_says_so(tmp_path, drawn):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, drawn, photometric="rgb")
    with open_slide(path, background="metadata") as reader:
        path.unlink()
        with pytest.raises(SlideProblem, match="is it still there"):
            read(reader)


@pytest.fixture
def mirax(tmp_path, drawn):
    return write_mirax(tmp_path / "slide.mrxs", np.repeat(np.repeat(drawn[::8, ::8], 8, 0), 8, 1))


def test_a_whole_mirax_slide_is_read(mirax):
    with open_slide(mirax, background="metadata") as reader:
        assert (reader.format, reader.level_dimensions) == ("openslide/mirax", ((SIDE, SIDE),))
        assert reader.properties["openslide.mpp-x"] == "0.5"
        assert read(reader, 100, 100, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("Slidedat.ini", "slide/Slidedat.ini is missing"),
        ("Data0000.dat", r"1 files are missing in slide/ \(Data0000.dat\)"),
        ("Index.dat", r"1 files are missing in slide/ \(Index.dat\)"),
        ("", "slide/Slidedat.ini is missing"),
    ],
)
def test_a_mirax_slide_without_a_part_never_passes_for_its_preview(mirax, part, told):
    target = mirax.with_suffix("") / part
    if part:
        target.unlink()
    else:
        shutil.rmtree(target)
    with pytest.raises(SlideProblem, match=told) as problem:
        open_slide(mirax, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_a_mirax_index_that_is_no_index_is_damaged(mirax):
    (mirax.with_suffix("") / "Slidedat.ini").write_bytes(os.urandom(500))
    with pytest.raises(SlideProblem, match=r"slide/Slidedat.ini is damaged"):
        open_slide(mirax, background="metadata")


def test_a_mirax_data_file_cut_short_is_told(mirax):
    data = mirax.with_suffix("") / "Data0000.dat"
    data.write_bytes(data.read_bytes()[: data.stat().st_size * 3 // 4])
    with pytest.raises(SlideProblem, match=r"Short read of file .*Data0000.dat"):
        open_slide(mirax, background="metadata")


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"ZISRAWFILE", "ZISRAWDIRECTORY"),
        (b"PK\x03\x04", "a zip archive"),
        (b"%PDF-1.7", "a PDF document"),
        (bytes(128) + b"DICM", "DICOM, but no whole-slide image"),
        (b"II*\0", "TIFF directory is damaged|a TIFF without images"),
        (b"\x89PNG\r\n\x1a\n", "image header is damaged"),
    ],
)
def test_foreign_files_are_named_whatever_they_are_called(tmp_path, head, told):
    path = tmp_path / "slide.svs"
    path.write_bytes(head + bytes(200))
    with pytest.raises(SlideProblem, match=told) as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_a_pipe_is_no_slide_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "slide.svs")
    with pytest.raises(SlideProblem, match="no regular file"):
        open_slide(tmp_path / "slide.svs", background="metadata")


@pytest.mark.parametrize(("name", "told"), [("a.dcm", "give one .dcm file"), ("a.txt", "no OME-Zarr")])
def test_folders_that_are_no_slides_say_what_to_give(tmp_path, name, told):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SlideProblem, match=told):
        open_slide(tmp_path, background="metadata")


def test_the_data_folder_of_a_mirax_slide_names_the_slide(mirax):
    with pytest.raises(SlideProblem, match=r"give the .mrxs file beside this folder"):
        open_slide(mirax.with_suffix(""), background="metadata")


def test_content_counts_not_the_name(tmp_path, drawn):
    for name, write in {
        "a.ndpi": lambda path: Image.fromarray(drawn).save(path, format="PNG"),
        "b.png": lambda path: tifffile.imwrite(path, drawn, photometric="rgb"),
        "c.jpg": lambda path: tifffile.imwrite(path, drawn, photometric="rgb", tile=(TILE, TILE)),
        "d": lambda path: path.write_bytes(imagecodecs.jpeg8_encode(drawn, level=100)),
    }.items():
        write(tmp_path / name)
    formats = {
        "a.ndpi": "image/png",
        "b.png": "tiff/strips",
        "c.jpg": "openslide/generic-tiff",
        "d": "image/jpeg",
    }
    for name, expected in formats.items():
        with open_slide(tmp_path / name, background="metadata") as reader:
            assert reader.format == expected
