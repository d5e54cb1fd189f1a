"""Damage in drawn slides of scanners: it is refused, all else is still read, nothing turns white."""

import struct

import numpy as np
import pytest
import tifffile
from dicom_series import write_series
from drawn_scanners import painted, truth
from hamamatsu_files import write_ndpi, write_vms, write_vmu
from overlapping_tiffs import write_trestle, write_ventana
from sakura_file import replace_tile, write_sakura
from zeiss_file import write_zeiss

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.reader import open_slide

SMALL = np.s_[300:652, 250:602]
"""A square of painted tissue that whole tiles of Trestle fill: 48 n + 16 = 2 (56 m + 8) = 352 px."""
BLOCK_PX = 64
ALIKE = 3.0
"""Mean difference of a block that is the same but for JPEG."""


def zero(path, share, size):
    """Write zeros over some bytes from a share of the file on."""
    content = bytearray(path.read_bytes())
    start = int(share * len(content))
    content[start : start + size] = bytes(size)
    path.write_bytes(content)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zero_tile(path):
    """Write zeros over a whole stored tile of the finest page."""
    with tifffile.TiffFile(path) as tiff:
        page = next(page for page in tiff.pages if page.is_tiled)
        stored = np.flatnonzero(np.array(page.databytecounts) > 1500)
        offset, size = page.dataoffsets[stored[-1]], page.databytecounts[stored[-1]]
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes(size))


def spoiled_vms(folder, how):
    path = write_vms(folder / "a.vms", painted()[300:652, 250:634])
    if how == "cut, no list of rows":
        (folder / "a.opt").unlink()
    image = folder / "a.jpg"
    zero(image, 0.5, 3000) if how == "zeroed" else cut(image)
    return path


def spoiled_dicom(folder, how):
    files = write_series(folder, painted()[SMALL], syntax="raw" if how == "raw cut" else "jpeg")
    if how == "zeroed":
        content = bytearray(files[0].read_bytes())
        start = content.index(b"\xff\xd8\xff", len(content) // 2)
        length = int.from_bytes(content[start - 4 : start], "little")
        content[start : start + length] = bytes(length)
        files[0].write_bytes(content)
    else:
        cut(files[0])
    return files[0]


def spoiled(kind, how, folder):
    pixels = painted()[SMALL]
    if kind == "vms":
        return spoiled_vms(folder, how)
    if kind == "dicom":
        return spoiled_dicom(folder, how)
    if kind == "vmu":
        path = write_vmu(folder / "a.vmu", painted()[300:652, 250:762])
        cut(folder / "a.ngr")
    elif kind == "ndpi":
        path = write_ndpi(folder / "a.ndpi", painted()[300:652, 250:762])
        zero(path, 0.4, 3000)
    elif kind == "sakura":
        path = write_sakura(folder / "a.svslide", pixels)
        replace_tile(path, "T;128|128;1;0;0", bytes(2000))
    elif kind == "zeiss":
        path = write_zeiss(folder / "a.czi", pixels)
        zero(path, 0.3, 3000)
    elif kind == "trestle":
        path = write_trestle(folder / "a.tif", pixels)
        zero_tile(path)
    else:
        path = write_ventana(folder / "a.bif", painted(), levels=1)
        zero_tile(path)
    return path


CASES = (
    ("vms", "zeroed"),
    ("vms", "cut"),
    ("vms", "cut, no list of rows"),
    ("vmu", "cut"),
    ("ndpi", "zeroed"),
    ("sakura", "zeroed"),
    ("zeiss", "zeroed"),
    ("dicom", "zeroed"),
    ("dicom", "cut"),
    ("dicom", "raw cut"),
    ("trestle", "zeroed"),
    ("ventana", "zeroed"),
)


def blocks_of(path):
    """Read a slide block by block: corner, and its pixels or why there are none."""
    with open_slide(path, background="metadata") as reader:
        width, height = reader.level_dimensions[0]
        for y in range(0, height - BLOCK_PX + 1, BLOCK_PX):
            for x in range(0, width - BLOCK_PX + 1, BLOCK_PX):
                try:
                    yield (
                        x,
                        y,
                        reader.read_region(
                            x_level0_px=x, y_level0_px=y, level=0, width_px=BLOCK_PX, height_px=BLOCK_PX
                        ),
                    )
                except SlideProblem as problem:
                    yield x, y, problem


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_what_is_damaged_is_refused_and_the_rest_is_read(tmp_path, kind, how):
    expected = truth("ventana") if kind == "ventana" else painted()[300:, 250:]
    refused = []
    found = list(blocks_of(spoiled(kind, how, tmp_path)))
    for x, y, block in found:
        if isinstance(block, SlideProblem):
            refused.append(block)
            assert block.status == SlideStatus.UNREADABLE
            assert block.reason.startswith(f"damaged at x {x}, y {y} (level 0, 64x64 px)")
        else:
            there = expected[y : y + BLOCK_PX, x : x + BLOCK_PX].astype(int)
            assert np.abs(block - there).mean() < ALIKE, (x, y)
    assert 0 < len(refused) < len(found)


def test_a_sakura_tile_without_one_of_its_colors_is_damage(tmp_path):
    path = write_sakura(tmp_path / "a.svslide", painted()[SMALL])
    replace_tile(path, "T;128|128;1;1;0", None)
    with pytest.raises(SlideProblem, match=r"tiles lack a color \(14 red, 13 green, 14 blue images"):
        open_slide(path, background="metadata")


def test_a_sakura_tile_that_was_never_stored_is_background(tmp_path):
    path = write_sakura(tmp_path / "a.svslide", painted()[SMALL])
    for color in range(3):
        replace_tile(path, f"T;128|128;1;{color};0", None)
    with open_slide(path, background="metadata") as reader:
        found = reader.read_region(x_level0_px=128, y_level0_px=128, level=0, width_px=128, height_px=128)
    assert (found == 255).all()


def test_a_sakura_slide_cut_off_is_no_slide(tmp_path):
    path = write_sakura(tmp_path / "a.svslide", painted()[SMALL])
    cut(path)
    with pytest.raises(SlideProblem, match="a database that OpenSlide does not know as a Sakura slide"):
        open_slide(path, background="metadata")


def test_a_sakura_header_that_declares_vast_tiles_is_refused(tmp_path):
    path = write_sakura(tmp_path / "a.svslide", painted()[SMALL])
    replace_tile(path, "Header", struct.pack("<7I", 2**30, 352, 352, 8, 1, 3, 1))
    with pytest.raises(SlideProblem, match="its header declares tiles of 1073741824 px"):
        open_slide(path, background="metadata")


def test_a_tile_list_that_points_beyond_all_memory_costs_one_slide(tmp_path):
    """Tifffile reads as many bytes as the first entry of an NDPI file's list says: here 2^62."""
    path = write_ndpi(tmp_path / "a.ndpi", painted()[300:652, 250:762])
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HH", 65426, 4))
    (count,) = struct.unpack_from("<I", content, entry + 4)
    struct.pack_into("<HHI", content, entry + 12, 65432, 4, count)  # the upper halves, in place of a comment
    struct.pack_into("<I", content, entry + 20, len(content))
    content += struct.pack(f"<{count}I", *[2**30] * count)
    path.write_bytes(content)
    with pytest.raises(SlideProblem, match="its directory takes more memory than there is") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.READER_CRASHED
