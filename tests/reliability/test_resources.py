"""G15: opening, reading and closing leaks nothing, and a header that lies never allocates what it says."""

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clean_forks import BUDGET_BYTES, CleanForks
from hostile_cases import SIZES, STRUCTURE
from hostile_other_cases import OTHERS
from open_files import open_files
from slide_mutants import TILE_PX, sound_slides

from wsi_kd.core.errors import SlideProblem
from wsi_kd.features.store import FeatureFile, read_features, write_features
from wsi_kd.slides.pyramid import ReadPlan
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

TIMES = [pytest.param(10, id="few"), pytest.param(200, marks=pytest.mark.reliability)]
WARM = 10
"""Rounds before the count: pools and caches fill."""
TURNS = 3
MAX_GROWTH_BYTES = 5 << 20
PLAN = ReadPlan(0, TILE_PX, TILE_PX, float(TILE_PX), float(TILE_PX))
COORDS = np.array([(x, y) for y in range(0, 256, TILE_PX) for x in range(0, 256, TILE_PX)])


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def growth(work: Callable[[], object], times: int) -> tuple[int, int]:
    """How many descriptors and bytes more are held after so many rounds.

    A leak takes more in every turn: of the bytes the least of three turns is told, as what tests before this
    one have left in the process may be freed and taken again in any one of them.
    """
    for _ in range(WARM):
        work()
    gc.collect()
    opened, grown = set(), []
    for _ in range(TURNS):
        before = open_files(), resident_bytes()
        for _ in range(times):
            work()
        gc.collect()
        opened |= open_files() - before[0]
        grown.append(resident_bytes() - before[1])
        if grown[-1] < MAX_GROWTH_BYTES:
            break
    return len(opened), min(grown)


def read_once(path: Path) -> None:
    """Open a slide, read a region and its tiles by the fastest way, and close it."""
    with open_slide(path, background="metadata") as reader:
        reader.read_region(x_level0_px=10, y_level0_px=10, level=0, width_px=100, height_px=100)
        source = open_tile_source(reader, PLAN, COORDS)
        for x, y in COORDS.tolist():
            source.read(x, y)
        source.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {kind.suffix: folder / f"sound{kind.suffix}" for kind in sound_slides(folder)}


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("suffix", [".svs", ".tif", ".ome.tif", ".png", ".jpg"])
def test_slides_leak_neither_memory_nor_descriptors(sound, suffix, times, record_property):
    opened, grown = growth(lambda: read_once(sound[suffix]), times)
    record_property(
        "figure",
        f"G15: {times} times open, read and close of {suffix}: {opened} descriptors and "
        f"{grown / 2**20:.1f} MiB more",
    )
    assert opened == 0
    assert grown < MAX_GROWTH_BYTES


@pytest.mark.parametrize("times", TIMES)
def test_slides_that_fail_leak_nothing_either(tmp_path, times):
    paths = []
    for number, name in enumerate(
        ("65,535 entries", "a tile of 2 GiB in a file of 100 kB", "tiles of 63 px")
    ):
        (tmp_path / str(number)).mkdir()
        paths.append((STRUCTURE | SIZES)[name].make(tmp_path / str(number)))

    def fail() -> None:
        for path in paths:
            with pytest.raises(SlideProblem):
                read_once(path)

    opened, grown = growth(fail, times)
    assert opened == 0
    assert grown < MAX_GROWTH_BYTES


@pytest.mark.parametrize("times", TIMES)
def test_feature_files_leak_nothing(tmp_path, times, record_property):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 64)).astype(np.float16)
    slide = FeatureFile(
        "s", values, rng.integers(0, 9000, (200, 2)), np.zeros(200, np.int8), {"status": "ok"}
    )

    def once() -> None:
        write_features(tmp_path / "a.h5", slide)
        read_features(tmp_path / "a.h5")

    opened, grown = growth(once, times)
    record_property(
        "figure",
        f"G15: {times} times write and read of a feature file: {opened} descriptors and "
        f"{grown / 2**20:.1f} MiB more",
    )
    assert opened == 0
    assert grown < MAX_GROWTH_BYTES


VAST = (
    *("both 2^31-1", "tiles of 9 GiB", "a tile of 2 GiB in a file of 100 kB", "every tile of 4 GiB"),
    *("2^31 offsets", "a PNG of 2^31 px", "a JPEG of 65,500 px", "Zarr with chunks of 3 TiB"),
    *("MIRAX of 2^31 images a row", "texts that swell to 480 MiB"),
)


@pytest.mark.reliability
def test_a_header_that_lies_allocates_next_to_nothing(tmp_path, record_property):
    peaks = {}
    with CleanForks(tmp_path) as forks:
        for number, name in enumerate(VAST):
            (tmp_path / str(number)).mkdir()
            path = (SIZES | OTHERS)[name].make(tmp_path / str(number))
            done = forks.command("info", "--tile-px", "64", "--tile-mpp", "0.5", "--", path)
            peaks[name] = done.peak_bytes
            assert done.code == 1, done
    most = max(peaks.values())
    record_property(
        "figure", f"G15: {len(VAST)} vast headers, at most {most / 2**20:.0f} MiB of address space asked for"
    )
    assert 0 < most < BUDGET_BYTES / 2, peaks


@pytest.mark.parametrize("suffix", [".svs", ".tif", ".ome.tif", ".png"])
@pytest.mark.parametrize("keep", [0, 500])
def test_a_slide_that_is_cut_while_it_is_read_is_told(sound, tmp_path, suffix, keep):
    """No library maps the file: a page that is gone would be a SIGBUS, which nobody can catch."""
    path = tmp_path / f"slide{suffix}"
    path.write_bytes(sound[suffix].read_bytes())
    with open_slide(path, background="metadata") as reader:
        reader.read_region(x_level0_px=0, y_level0_px=0, level=0, width_px=64, height_px=64)
        assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
        source = open_tile_source(reader, PLAN, COORDS)
        os.truncate(path, keep)
        told = [told_by(lambda x=x, y=y: source.read(x, y)) for x, y in COORDS[5:].tolist()]
        source.close()
        assert all("unreadable" in reason for reason in told)
        with pytest.raises(SlideProblem, match=r"replaced or changed while it was read|the file ends"):
            reader.read_region(x_level0_px=128, y_level0_px=128, level=0, width_px=64, height_px=64)


def told_by(read: Callable[[], object]) -> str:
    try:
        read()
    except SlideProblem as problem:
        return str(problem)
    return ""
