"""What is damaged is told, what is odd goes through the reader, and neither ever passes for pixels."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import tifffile
from jpeg_tiffs import rewrite_tile, tissue, write_tiff

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.pyramid import ReadPlan, read_tile
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.stored_tiles import CHECKED_EVERY
from wsi_kd.slides.tile_source import open_tile_source

EDGE = 64
PLAN = ReadPlan(0, EDGE, EDGE, float(EDGE), float(EDGE))
BY_OFFSET = "stored JPEG tiles by offset"
COORDS = np.stack([axis.ravel() for axis in np.meshgrid(np.arange(0, 384, EDGE), np.arange(0, 256, EDGE))], 1)


def zeroed(stored: bytes) -> bytes:
    return bytes(len(stored))


def half_zeroed(stored: bytes) -> bytes:
    return stored[: len(stored) // 2] + bytes(len(stored) - len(stored) // 2)


def ended_early(stored: bytes) -> bytes:
    middle = len(stored) - 60
    return stored[:middle] + b"\xff\xd9" + stored[middle + 2 :]


def foreign(stored: bytes) -> bytes:
    return b"not an image".ljust(len(stored))


def without_end(stored: bytes) -> bytes:
    return stored[:-2] + bytes(2)


def damages() -> list[Callable[[bytes], bytes]]:
    return [zeroed, half_zeroed, ended_early, foreign, without_end]


@pytest.fixture
def slide(tmp_path):
    return write_tiff(tmp_path / "slide.tif", tissue(384, 256, seed=3), subsampling="420")


@pytest.mark.parametrize("damage", damages())
@pytest.mark.parametrize(("shift", "needing"), [(0, 1), (20, 4)])
def test_a_damaged_tile_is_told_to_those_that_need_it_and_only_to_them(slide, damage, shift, needing):
    coords = COORDS[COORDS.max(axis=1) < 190] + shift
    with open_slide(slide, background="metadata") as reader:
        expected = [read_tile(reader, x_level0_px=x, y_level0_px=y, plan=PLAN) for x, y in coords.tolist()]
    rewrite_tile(slide, 6 + 1, damage)  # column 1, row 1
    damaged = 0
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, coords)
        assert source.how == BY_OFFSET
        for (x, y), pixels in zip(coords.tolist(), expected, strict=True):
            if 1 in {x // 64, (x + 63) // 64} and 1 in {y // 64, (y + 63) // 64}:
                with pytest.raises(SlideProblem, match="damaged stored tile at column 1, row 1") as problem:
                    source.read(x, y)
                assert problem.value.status == SlideStatus.UNREADABLE
                damaged += 1
            else:
                assert np.array_equal(source.read(x, y), pixels)
        assert not source._decoded._slots  # what a damaged tile's request did not use is not kept for it
        source.close()
    assert damaged == needing


def test_a_file_that_ends_early_is_damaged_where_it_ends(slide):
    with tifffile.TiffFile(slide) as tiff:
        offsets = tiff.pages[0].dataoffsets
    last = max(range(len(offsets)), key=offsets.__getitem__)
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        source.close()
        os.truncate(slide, offsets[last] + 100)
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert source.how == BY_OFFSET
        with pytest.raises(SlideProblem, match=r"100 of its \d+ bytes are there"):
            source.read(*COORDS[last].tolist())
        assert source.read(*COORDS[last - 1].tolist()).std() > 3
        source.close()


def test_a_file_that_is_written_to_while_it_is_read_gives_no_more_pixels(slide):
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        source.read(0, 0)
        rewrite_tile(slide, 20, lambda stored: stored[::-1])
        os.utime(slide, ns=(1, 1))
        with pytest.raises(SlideProblem, match="changed while it was read"):
            source.read(*COORDS[20].tolist())
        for x, y in COORDS.tolist():  # and from then on, whole or not
            with pytest.raises(SlideProblem, match="changed while it was read"):
                source.read(x, y)
        source.close()


def test_a_file_that_is_written_to_is_noticed_where_no_tile_is_damaged(slide):
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        os.utime(slide, ns=(1, 1))
        told = []
        for x, y in COORDS.tolist():
            try:
                source.read(x, y)
            except SlideProblem as problem:
                told.append(problem.reason)
        assert len(COORDS) - len(told) < CHECKED_EVERY
        assert all("changed while it was read" in reason for reason in told)
        source.close()


def test_tiles_that_are_all_unusual_go_through_the_reader(tmp_path):
    """A writer that leaves bytes before the end: OpenSlide reads its tiles, so none is called damaged."""
    path = write_tiff(tmp_path / "slide.tif", tissue(384, 256), before_end=b"a" * 50)
    with open_slide(path, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert (
            source.how
            == "openslide/aperio: none of its stored tiles that were tried can be decoded by itself"
        )
        for x, y in COORDS.tolist():
            expected = read_tile(reader, x_level0_px=x, y_level0_px=y, plan=PLAN)
            assert np.array_equal(source.read(x, y), expected)
        source.close()


def test_one_odd_tile_among_the_tried_does_not_decide(slide):
    with tifffile.TiffFile(slide) as tiff:
        sizes = tiff.pages[0].databytecounts
    rewrite_tile(slide, int(np.argmax(sizes)), half_zeroed)  # the first that is tried
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert source.how == BY_OFFSET
        source.close()


def test_stored_tiles_that_differ_from_the_reader_are_not_used(slide, monkeypatch):
    with open_slide(slide, background="metadata") as reader:
        plain = type(reader).read_region
        monkeypatch.setattr(type(reader), "read_region", lambda self, **where: 255 - plain(self, **where))
        source = open_tile_source(reader, PLAN, COORDS)
        assert "differ from what the reader gives" in source.how
        expected = 255 - plain(reader, x_level0_px=64, y_level0_px=64, level=0, width_px=EDGE, height_px=EDGE)
        assert np.array_equal(source.read(64, 64), expected)
        source.close()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"compression": "adobe_deflate", "photometric": "rgb"}, "compression 8; expected 7"),
        ({"compression": "adobe_deflate", "photometric": "rgb", "tile": None}, "0 tiled pages"),
    ],
)
def test_other_tiffs_go_through_the_reader_and_say_why(tmp_path, how, told):
    path = tmp_path / "other.tif"
    tifffile.imwrite(path, tissue(300, 200), **{"tile": (64, 64), **how})
    with open_slide(path, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert told in source.how
        assert np.array_equal(
            source.read(64, 64), read_tile(reader, x_level0_px=64, y_level0_px=64, plan=PLAN)
        )
        source.close()


def test_two_pages_of_one_size_are_not_guessed_between(tmp_path):
    twice = tmp_path / "twice.tif"
    with tifffile.TiffWriter(twice) as writer:
        for seed in (1, 2):
            writer.write(
                tissue(300, 200, seed=seed),
                tile=(64, 64),
                compression="jpeg",
                photometric="ycbcr",
                description="Aperio Image Library v12 \r\n300x200 |MPP = 0.5",
                metadata=None,
            )
    with open_slide(twice, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert "2 tiled pages of 300x200 px; expected one" in source.how
        source.close()


def test_formats_whose_levels_are_no_plain_grid_go_through_the_reader(synthetic_slide):
    slide = synthetic_slide("bounds")
    with open_slide(slide.path, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert source.how.startswith("openslide/leica: ")
        x, y = (origin + 300 for origin in slide.origin)
        assert np.array_equal(source.read(x, y), read_tile(reader, x_level0_px=x, y_level0_px=y, plan=PLAN))
        source.close()


def test_tiles_too_large_to_read_at_once_go_through_the_reader(synthetic_slide):
    plan = ReadPlan(0, 2049, 64, 2049.0, 2049.0)
    with open_slide(synthetic_slide("tumor").path, background="metadata") as reader:
        source = open_tile_source(reader, plan, COORDS)
        assert "2049 px of level 0" in source.how
        source.close()


def test_threads_that_use_the_reader_have_handles_of_their_own(synthetic_slide):
    together = Barrier(3, timeout=60)
    with open_slide(synthetic_slide("bounds").path, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)

        def work(_):
            source.read(2100, 1100)
            together.wait()
            return id(source._readers._mine())

        with ThreadPoolExecutor(3) as pool:
            handles = set(pool.map(work, range(3)))
        assert len(handles) == 3
        assert id(reader) not in handles
        assert id(source._readers._mine()) == id(reader)
        source.close()
        assert reader.read_region(x_level0_px=0, y_level0_px=0, level=0, width_px=1, height_px=1).size == 3


QUALIFYING = [
    "wsi/CMU-1-Small-Region.svs",
    "derived/cmu1_small_4level_aperio.svs",
    "derived/os2_ki67_4level_generic_mpp.tif",
    "faulty/openslide_small.svs",
    "wsi/OS-1-detail.ome.tif",
]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", QUALIFYING)
@pytest.mark.parametrize(("edge", "shift"), [(256, 0), (240, 0), (300, -77)])
def test_real_slides_are_the_same_to_the_last_bit(shared_data, name, edge, shift):
    plan = ReadPlan(0, edge, edge, float(edge), float(edge))
    with open_slide(shared_data / name, background="metadata") as reader:
        width, height = reader.level_dimensions[0]
        columns, rows = np.arange(shift, width, 2 * edge), np.arange(shift, height, 2 * edge)
        coords = np.stack([axis.ravel() for axis in np.meshgrid(columns, rows)], axis=1)
        source = open_tile_source(reader, plan, coords)
        assert source.how == BY_OFFSET
        for x, y in coords.tolist():
            expected = read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan)
            assert np.array_equal(source.read(x, y), expected)
        source.close()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", QUALIFYING[1:3])
def test_coarse_levels_of_real_slides_differ_by_two_gray_levels_at_most(shared_data, name):
    with open_slide(shared_data / name, background="metadata") as reader:
        for level, downsample in list(enumerate(reader.level_downsamples))[1:3]:
            plan = ReadPlan(level, 64, 64, 64 * downsample, 64.0)
            coords = np.random.default_rng(level).integers(0, 1500, (12, 2))
            source = open_tile_source(reader, plan, coords)
            assert source.how == BY_OFFSET
            for x, y in coords.tolist():
                expected = read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan)
                assert np.abs(source.read(x, y).astype(int) - expected).max() <= 2
            source.close()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wsi/test3-DAPI-2-_387_.ndpi", "openslide/hamamatsu"),
        ("wsi/ezwsi_multiframe_camelyon_challenge_image.dcm", "openslide/dicom"),
        ("faulty/openslide_boxes.tiff", "compression 8"),
    ],
)
def test_real_slides_of_other_kinds_go_through_their_reader(shared_data, name, told):
    with open_slide(shared_data / name, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert told in source.how
        assert np.array_equal(source.read(0, 64), read_tile(reader, x_level0_px=0, y_level0_px=64, plan=PLAN))
        source.close()
