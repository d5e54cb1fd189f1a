"""Tiles by offset: the reader's pixels to the last bit, each stored tile decoded once, in any grid."""

import multiprocessing
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jpeg_tiffs import adobe, halved, tissue, write_philips, write_tiff

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.pyramid import ReadPlan, read_tile
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

BY_OFFSET = "stored JPEG tiles by offset"
KINDS = {
    "ycbcr 420": {"subsampling": "420"},
    "ycbcr tables": {"tables": True},
    "rgb tables, as Aperio": {"colors": "rgb", "tables": True},
    "rgb with an Adobe marker": {"colors": "rgb", "marker": adobe(0)},
    "rgb that claims YCbCr": {"colors": "rgb", "marker": adobe(1)},
    "generic ycbcr": {"aperio": False},
}


def plan_of(level, read_px, tile_px=None, *, downsample=1.0, footprint=None):
    tile_px = tile_px or read_px
    footprint = float(footprint or read_px)
    return ReadPlan(level, read_px, tile_px, footprint * downsample, footprint)


def grid(width, height, step, *, start=0):
    columns, rows = np.arange(start, width, step), np.arange(start, height, step)
    return np.stack([axis.ravel() for axis in np.meshgrid(columns, rows)], axis=1).astype(np.int64)


@contextmanager
def opened(path, plan, coords, *, background="metadata"):
    with (
        open_slide(path, background=background) as reader,
        closing(open_tile_source(reader, plan, coords)) as source,
    ):
        yield reader, source


def assert_alike(reader, source, plan, coords):
    for x, y in coords.tolist():
        expected = read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan)
        assert np.array_equal(source.read(x, y), expected), (x, y)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpeg_tiffs")
    pixels = tissue(600, 410)
    return {
        name: write_tiff(folder / f"{index}.tif", pixels, **how)
        for index, (name, how) in enumerate(KINDS.items())
    }


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_reader_however_tiles_are_stored(drawn, kind):
    plan, coords = plan_of(0, 100), grid(600, 410, 90, start=-27)
    with opened(drawn[kind], plan, coords) as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)


@pytest.mark.parametrize(
    ("plan", "start", "step"),
    [
        (plan_of(0, 64), 0, 64),  # aligned
        (plan_of(0, 64), -27, 64),  # shifted, and across all edges
        (plan_of(0, 100), 5, 60),  # overlapping
        (plan_of(0, 128, 64), 0, 128),  # halved
        (plan_of(0, 91, 64, footprint=90.3), 3, 90),  # no whole number of pixels
        (plan_of(0, 60, 64), 3, 60),  # enlarged
    ],
)
def test_pixels_are_those_of_the_reader_in_any_grid(drawn, plan, start, step):
    coords = grid(600, 410, step, start=start)
    with opened(drawn["ycbcr 420"], plan, coords) as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)


@given(
    corner=st.tuples(st.integers(-150, 700), st.integers(-150, 500)),
    footprint=st.floats(1, 300),
    tile_px=st.integers(1, 120),
    kind=st.sampled_from(sorted(KINDS)),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_gives_what_the_reader_gives(drawn, corner, footprint, tile_px, kind):
    plan = plan_of(0, int(np.ceil(footprint - 1e-6)), tile_px, footprint=footprint)
    with opened(drawn[kind], plan, np.array([[100, 100]])) as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, np.array([corner]))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(
    ("plan", "start", "step"),
    [
        (plan_of(0, 64), 0, 64),
        (plan_of(0, 64), 17, 64),
        (plan_of(0, 150), 0, 40),
        (plan_of(0, 128, 64), 32, 128),
        (plan_of(0, 256), 10, 256),
    ],
)
def test_each_stored_tile_is_decoded_exactly_once(drawn, decodes, workers, plan, start, step):
    coords = grid(600, 410, step, start=start)
    with opened(drawn["ycbcr 420"], plan, coords) as (_, source):
        decodes.clear()  # the tiles that opening compared
        with ThreadPoolExecutor(workers or 1) as pool:
            list(pool.map(lambda place: source.read(*place), coords.tolist()))
        last = coords.max(axis=0) + plan.read_px
        touched = [
            np.arange(start // 64, -(-min(edge, end) // 64))
            for edge, end in zip((600, 410), last, strict=True)
        ]
        assert set(decodes.values()) == {1}
        assert len(decodes) == len(touched[0]) * len(touched[1])
        assert not source._decoded._slots


def test_tiles_far_apart_touch_only_what_they_need(drawn, decodes):
    coords = np.array([[0, 0], [300, 300], [512, 320]])
    with opened(drawn["ycbcr 420"], plan_of(0, 64), coords) as (_, source):
        decodes.clear()
        for x, y in coords.tolist():
            source.read(x, y)
    assert sum(decodes.values()) == 1 + 4 + 1


def test_memory_is_bounded_by_the_rows_that_are_open(tmp_path):
    path = write_tiff(tmp_path / "s.tif", tissue(512, 512), tile_px=32, subsampling="420")
    plan, coords = plan_of(0, 32), grid(512 - 32, 512 - 32, 32, start=9)
    with opened(path, plan, coords) as (_, source):
        out = np.empty((32, 32, 3), np.uint8)
        source.read(*coords[0].tolist(), out)
        tracemalloc.start()
        for x, y in coords[1:].tolist():
            source.read(x, y, out)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    row = 16 * 32 * 32 * 3  # 49 kB; the whole slide is 16 such rows
    assert peak < 3 * row


def test_threads_give_the_same_pixels(drawn):
    plan, coords = plan_of(0, 70), grid(600, 410, 33, start=-20)
    with opened(drawn["rgb tables, as Aperio"], plan, coords) as (reader, source):
        with ThreadPoolExecutor(5) as pool:
            found = list(pool.map(lambda place: source.read(*place), coords.tolist()))
        for (x, y), pixels in zip(coords.tolist(), found, strict=True):
            assert np.array_equal(pixels, read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan))


@pytest.mark.parametrize("kind", ["generic ycbcr", None])
def test_a_source_may_be_pickled(drawn, synthetic_slide, kind):
    path = drawn[kind] if kind else synthetic_slide("bounds").path
    plan, coords = plan_of(0, 64), grid(300, 300, 64, start=11)
    with opened(path, plan, coords) as (_, source):
        copy = pickle.loads(pickle.dumps(source))
        assert copy.how == source.how
        assert np.array_equal(copy.read(75, 75), source.read(75, 75))
        copy.close()
        assert np.array_equal(source.read(139, 75), source.read(139, 75))


@pytest.mark.parametrize("kind", ["tumor", "bounds"])
def test_a_forked_child_reads_on(synthetic_slide, kind):
    plan, coords = plan_of(0, 64), grid(600, 400, 64, start=11)
    with opened(synthetic_slide(kind).path, plan, coords) as (_, source):
        first = [source.read(x, y) for x, y in coords[:9].tolist()]
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(
            target=lambda: queue.put([source.read(x, y) for x, y in coords.tolist()]), daemon=True
        )
        child.start()
        found = queue.get()
        child.join(timeout=120)
        rest = [source.read(x, y) for x, y in coords[9:].tolist()]
    assert np.array_equal(np.stack(found), np.stack(first + rest))


def test_tiles_are_read_into_the_array_that_is_given(drawn):
    batch = np.zeros((2, 64, 64, 3), np.uint8)
    coords = np.array([[64, 64], [70, 70]])
    with opened(drawn["generic ycbcr"], plan_of(0, 64), coords) as (_, source):
        for (x, y), row in zip(coords.tolist(), batch, strict=True):
            assert source.read(x, y, row) is row
        assert np.array_equal(batch, np.stack([source.read(x, y) for x, y in coords.tolist()]))


def test_parts_that_are_not_stored_are_background(synthetic_slide):
    plan, coords = plan_of(0, 256), grid(1024, 768, 256, start=100)
    with opened(synthetic_slide("transparent").path, plan, coords, background="white") as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)
        assert (source.read(600, 300) == 255).all()


@pytest.mark.parametrize("kind", ["tumor", "transparent"])
def test_coarse_levels_are_exact_at_whole_pixels_and_interpolated_between(synthetic_slide, kind):
    plan = plan_of(1, 64, downsample=4.0)
    whole, between = grid(1024, 768, 4 * 40, start=-160), grid(700, 400, 91, start=1)
    with opened(synthetic_slide(kind).path, plan, np.concatenate([whole, between])) as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, whole)
        differences = [
            np.abs(
                source.read(x, y).astype(int) - read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan)
            ).max()
            for x, y in between.tolist()
        ]
    assert 0 < max(differences) <= 2


def test_a_reader_that_takes_the_nearest_pixel_of_a_level_is_followed(tmp_path):
    path, pixels = tmp_path / "s.ome.tif", tissue(403, 301)
    how = {"tile": (64, 64), "compression": "jpeg", "photometric": "ycbcr", "metadata": {"axes": "YXS"}}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, subifds=1, **how)
        writer.write(halved(pixels), subfiletype=1, **how)
    plan, coords = plan_of(1, 64, downsample=2.0), grid(350, 250, 27, start=-31)
    with opened(path, plan, coords) as (reader, source):
        assert reader.format == "tiff/ome"
        assert reader.level_downsamples[1] != 2
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)


@pytest.mark.parametrize("level", [0, 1])
def test_pages_that_are_padded_to_whole_tiles_are_those_of_the_levels(tmp_path, level):
    path = write_philips(tmp_path / "philips.tiff", tissue(450, 330))
    plan, coords = plan_of(level, 50, downsample=2.0**level), grid(560, 450, 2 * 37, start=-100)
    with opened(path, plan, coords) as (reader, source):
        assert reader.format == "openslide/philips"
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)


def test_the_plan_may_ask_for_any_level(synthetic_slide):
    for level, downsample in enumerate((1.0, 4.0, 16.0)):
        plan = plan_of(level, 40, 32, downsample=downsample, footprint=39.5)
        coords = grid(1024, 768, 160)
        with opened(synthetic_slide("tumor").path, plan, coords) as (reader, source):
            assert source.how == BY_OFFSET
            assert_alike(reader, source, plan, coords)


def test_no_tiles_at_all_may_be_announced(drawn):
    plan = plan_of(0, 64)
    with opened(drawn["generic ycbcr"], plan, np.zeros((0, 2), np.int64)) as (reader, source):
        assert "nothing" in source.how
        assert_alike(reader, source, plan, np.array([[3, 3]]))


def test_an_unreadable_tile_does_not_spoil_the_next(synthetic_slide):
    plan, coords = plan_of(0, 256), grid(1024, 768, 256)
    with opened(synthetic_slide("damaged_tiles").path, plan, coords) as (_, source):
        assert source.how == BY_OFFSET
        with pytest.raises(SlideProblem, match="damaged stored tile at column 1, row 1"):
            source.read(256, 256)
        assert source.read(512, 256).std() > 5


def test_positions_between_pixels_beyond_the_corner_are_the_readers(synthetic_slide):
    """Left of and above the slide OpenSlide rounds in a way of its own; the pixels are its own, too."""
    plan = plan_of(1, 64, downsample=4.0)
    coords = np.array([[-183, 5], [-91, -7], [5, -130], [-1, -1], [-2, 301]], np.int64)
    with opened(synthetic_slide("tumor").path, plan, coords) as (reader, source):
        assert source.how == BY_OFFSET
        assert_alike(reader, source, plan, coords)
