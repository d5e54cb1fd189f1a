import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.slides.composite import background_color, composite
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.openslide_reader import bounds_of
from wsi_kd.slides.reader import open_slide


def read(reader, x=0, y=0, size=32, level=0):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=level, width_px=size, height_px=size)


def test_alpha_is_blended_on_the_background():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 100, 100, 128]]], np.uint8)
    found = composite(rgba, (200, 210, 220))
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[0, 1].tolist() == [200, 210, 220]
    assert found[0, 2].tolist() == [150, 155, 160]  # (128 c + 127 b) / 255


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("F1E9E4", (241, 233, 228)),
        ("#000000", (0, 0, 0)),
        ("", (255,) * 3),
        ("xyz", (255,) * 3),
        ("FF", (255,) * 3),
    ],
)
def test_background_color_from_metadata(raw, expected):
    assert background_color({"openslide.background-color": raw}) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((10, 20, 30, 40), Box(10, 20, 30, 40)),
        ((90, 20, 30, 40), Box(90, 20, 10, 40)),
        ((-5, 0, 30, 40), Box(0, 0, 25, 40)),
        ((200, 0, 30, 40), Box(0, 0, 100, 80)),
    ],
)
def test_bounds_are_cut_to_the_slide(named, expected):
    keys = ("x", "y", "width", "height")
    properties = {f"openslide.bounds-{key}": str(value) for key, value in zip(keys, named, strict=True)}
    assert bounds_of(properties, (100, 80)) == expected
    properties.pop("openslide.bounds-x")
    assert bounds_of(properties, (100, 80)) == Box(0, 0, 100, 80)


def test_what_lies_outside_the_slide_is_background(synthetic_slide):
    with open_slide(synthetic_slide("normal").path, background="metadata") as reader:
        assert (read(reader, x=-100, y=-100) == 255).all()
        assert (read(reader, x=5000, y=5000) == 255).all()


def test_transparent_pixels_are_never_black(synthetic_slide):
    with open_slide(synthetic_slide("transparent").path, background="white") as reader:
        assert (read(reader, x=800, y=300, size=128) == 255).all()


def test_bounds_of_a_scan_with_a_margin(synthetic_slide):
    slide = synthetic_slide("bounds")
    with open_slide(slide.path, background="metadata") as reader:
        assert reader.bounds == Box(*slide.origin, 1024, 768)


def test_a_damaged_region_does_not_spoil_the_next_read(synthetic_slide):
    with open_slide(synthetic_slide("damaged_tiles").path, background="metadata") as reader:
        before = read(reader, x=600, y=10)
        for _ in range(2):
            with pytest.raises(SlideProblem, match="damaged at x 300, y 400") as problem:
                read(reader, x=300, y=400)
            assert problem.value.status == SlideStatus.UNREADABLE
            assert np.array_equal(read(reader, x=600, y=10), before)


def test_threads_share_a_reader_even_while_regions_fail(synthetic_slide):
    with open_slide(synthetic_slide("damaged_tiles").path, background="metadata") as reader:
        before = read(reader, x=600, y=10)

        def work(index):
            if index % 2:
                with pytest.raises(SlideProblem):
                    read(reader, x=300, y=400)
                return True
            return np.array_equal(read(reader, x=600, y=10), before)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(40)))


def test_a_pickled_reader_opens_its_own_handle(synthetic_slide):
    with open_slide(synthetic_slide("normal").path, background="white") as reader:
        with pickle.loads(pickle.dumps(reader)) as copy:
            assert np.array_equal(read(copy, x=300, y=300), read(reader, x=300, y=300))
            assert copy.background == (255, 255, 255)
        assert read(reader).shape == (32, 32, 3)


def test_a_forked_child_opens_its_own_handle(synthetic_slide):
    with open_slide(synthetic_slide("normal").path, background="metadata") as reader:
        expected = read(reader, x=300, y=300)
        handle = reader._slide
        reader._process = os.getpid() + 1  # as a child finds it
        assert np.array_equal(read(reader, x=300, y=300), expected)
        assert reader._slide is not handle
        assert handle.read_region((0, 0), 0, (1, 1)) is not None


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), (b"", "0 bytes"), (b"not an image at all", "no format that is read here")],
)
def test_files_that_are_no_slides_say_so(tmp_path, content, told):
    path = tmp_path / "slide.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SlideProblem, match=told) as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_a_truncated_slide_is_unreadable(synthetic_slide):
    with (
        pytest.raises(SlideProblem) as problem,
        open_slide(synthetic_slide("truncated").path, background="metadata") as reader,
    ):
        read(reader, x=0, y=0, size=700)
    assert problem.value.status == SlideStatus.UNREADABLE


def test_fingerprint_sees_size_ends_and_blocks(tmp_path):
    path = tmp_path / "slide.svs"
    content = bytearray(os.urandom(12 * 2**20))
    seen = set()
    for position in (0, len(content) - 1, 2**20 + 5):
        path.write_bytes(content)
        seen.add(slide_fingerprint(path))
        content[position] ^= 255
    path.write_bytes(content)
    seen.add(slide_fingerprint(path))
    path.write_bytes(content[:-1])
    seen.add(slide_fingerprint(path))
    assert len(seen) == 5
    other = tmp_path / "renamed.tif"
    other.write_bytes(content[:-1])
    assert slide_fingerprint(other) == slide_fingerprint(path)


def test_fingerprint_of_mrxs_covers_its_folder(tmp_path):
    path = tmp_path / "slide.mrxs"
    path.write_bytes(b"index")
    folder = tmp_path / "slide"
    folder.mkdir()
    (folder / "Slidedat.ini").write_text("a")
    (folder / "Data0000.dat").write_bytes(b"123")
    first = slide_fingerprint(path)
    (folder / "Data0000.dat").write_bytes(b"1234")
    second = slide_fingerprint(path)
    (folder / "Slidedat.ini").write_text("b")
    assert len({first, second, slide_fingerprint(path)}) == 3


@pytest.mark.shared_data
def test_real_pixels_of_a_pyramid_agree_between_levels(shared_data):
    with open_slide(shared_data / "derived/cmu1_small_4level_aperio.svs", background="metadata") as reader:
        fine = read(reader, x=800, y=1200, size=256).astype(float)
        coarse = read(reader, x=800, y=1200, size=128, level=1).astype(float)
    halved = fine.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    there, beside = np.abs(halved - coarse).mean(), np.abs(halved[:, :-2] - coarse[:, 2:]).mean()
    assert there < 7
    assert beside > 2 * there


@pytest.mark.shared_data
def test_real_slide_that_opens_but_cannot_be_read(shared_data):
    with (
        open_slide(shared_data / "faulty/openslide_unreadable.svs", background="metadata") as reader,
        pytest.raises(SlideProblem, match="Bogus marker length"),
    ):
        read(reader, size=16)
