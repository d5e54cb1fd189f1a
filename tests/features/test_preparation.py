"""What a network is fed: Pillow is the truth; a tile's place, neighbors and thread change nothing."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import paint_slide

from wsi_kd.features.preparation import Preparation, prepare_tiles

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MOST_LEVELS = {"bilinear": 1, "bicubic": 2}
RATIOS = {"8/7": (256, 224), "2": (128, 64), "3.3": (198, 60), "enlarged": (100, 224)}


def noise(edge, tiles=3):
    return np.random.default_rng(0).integers(0, 256, (tiles, edge, edge, 3), dtype=np.uint8)


def tissue(edge, tiles=3):
    """Drawn nuclei and stroma, with the sharp rim of the tissue in some of it."""
    drawn = paint_slide(seed=0, with_tumor=False)
    return np.stack([drawn[y : y + edge, y : y + edge] for y in range(120, 120 + 60 * tiles, 60)])


def by_pillow(tiles, edge, interpolation):
    images = [Image.fromarray(tile).resize((edge, edge), FILTERS[interpolation]) for tile in tiles]
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("drawn", [noise, tissue])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_tiles_are_resized_as_pillow_does(interpolation, ratio, drawn):
    source, edge = RATIOS[ratio]
    tiles = drawn(source)
    found = prepare_tiles(tiles, Preparation(edge, edge, interpolation)).astype(int)
    apart = np.abs(found - by_pillow(tiles, edge, interpolation))
    assert apart.max() <= MOST_LEVELS[interpolation]
    assert (apart > 0).mean() < 0.02


@pytest.mark.parametrize("interpolation", FILTERS)
def test_a_resized_tile_is_cropped_in_its_center(interpolation):
    tiles = tissue(100)
    whole = prepare_tiles(tiles, Preparation(64, 64, interpolation))
    assert np.array_equal(prepare_tiles(tiles, Preparation(49, 64, interpolation)), whole[:, 8:57, 8:57])


def test_what_is_cut_off_is_cut_off_evenly():
    tiles = noise(32)
    assert np.array_equal(prepare_tiles(tiles, Preparation(20, 32, "bilinear")), tiles[:, 6:26, 6:26])


def test_tiles_that_fit_are_taken_as_they_are():
    tiles = noise(32)
    assert np.shares_memory(prepare_tiles(tiles, Preparation(32, 32, "bicubic")), tiles)
    copied = prepare_tiles(tiles, Preparation(32, 32, "bicubic"), np.empty_like(tiles))
    assert np.array_equal(copied, tiles)
    assert not np.shares_memory(copied, tiles)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("edges", [(16, 16), (12, 16)])
def test_a_tile_has_the_same_bytes_at_any_place_and_in_any_kind_of_array(interpolation, edges):
    """Alone, among others, in another order, as part of wider rows, in memory that is not to be written."""
    tiles, how = noise(37, tiles=9), Preparation(*edges, interpolation)
    together = prepare_tiles(tiles, how)
    alone = np.concatenate([prepare_tiles(tile[None], how) for tile in tiles])
    assert np.array_equal(alone, together)
    assert np.array_equal(prepare_tiles(tiles[::-1], how), together[::-1])
    wide = np.zeros((9, 40, 50, 3), np.uint8)
    wide[:, 2:39, 5:42] = tiles
    wide.flags.writeable = False
    assert np.array_equal(prepare_tiles(wide[:, 2:39, 5:42], how), together)


@pytest.mark.parametrize("edges", [(16, 16), (12, 16), (37, 37)])
def test_only_its_own_rows_of_a_batch_are_written(edges):
    tiles, batch = noise(37, tiles=4), np.full((9, edges[0], edges[0], 3), 77, np.uint8)
    found = prepare_tiles(tiles, Preparation(*edges, "bilinear"), batch[3:7])
    assert np.shares_memory(found, batch)
    assert np.array_equal(batch[3:7], prepare_tiles(tiles, Preparation(*edges, "bilinear")))
    assert (batch[:3] == 77).all()
    assert (batch[7:] == 77).all()
    assert prepare_tiles(tiles[:0], Preparation(*edges, "bilinear"), batch[:0]).shape == (0, *batch.shape[1:])


def test_threads_that_resize_side_by_side_into_one_batch_do_not_meet():
    """Rows of the other thread lie directly beside a thread's own."""
    tiles, how = noise(64, tiles=64), Preparation(56, 56, "bilinear")
    expected = prepare_tiles(tiles, how)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            batch = np.zeros_like(expected)
            rows = [(tiles[at : at + 1], how, batch[at : at + 1]) for at in range(64)]
            list(pool.map(lambda row: prepare_tiles(*row), rows))
            assert np.array_equal(batch, expected)


def test_other_threads_run_meanwhile(request):
    """Threads that Python makes nobody give way to have a turn if the call gives way itself.

    In one of many calls: on a busy machine the other thread may wake too late.
    """
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1000.0)
    tiles, how = np.zeros((32, 512, 512, 3), np.uint8), Preparation(448, 448, "bilinear")

    def had_a_turn(_):
        done, seen = [], set()

        def resize():
            done.append("begun")
            prepare_tiles(tiles, how)
            done.append("ended")

        reader = threading.Thread(target=resize)
        reader.start()
        while reader.is_alive():
            seen.add(len(done))
            time.sleep(0)
        reader.join()
        return 1 in seen

    assert any(map(had_a_turn, range(100)))


def test_a_reading_thread_gets_no_team_of_threads_of_its_own():
    tasks = Path("/proc/self/task")
    if not tasks.is_dir() or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("needs Linux and a processor with AVX2: elsewhere torch shares a call out")
    counts, before = [], torch.get_num_threads()

    def read():
        counts.append(len(list(tasks.iterdir())))
        prepare_tiles(noise(256), Preparation(224, 224, "bilinear"))
        counts.append(len(list(tasks.iterdir())))

    torch.set_num_threads(2)
    try:
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    finally:
        torch.set_num_threads(before)
    assert counts[1] <= counts[0]


DIGEST = """
import hashlib, numpy as np, torch
from wsi_kd.features.preparation import Preparation, prepare_tiles
tiles = np.random.default_rng(0).integers(0, 256, (3, 107, 107, 3), dtype=np.uint8)
how = [Preparation(edge, edge, kind) for edge in (94, 33, 120) for kind in ("bilinear", "bicubic")]
digest = hashlib.sha256(b"".join(prepare_tiles(tiles, one).tobytes() for one in how)).hexdigest()
"""


def test_a_processor_without_vector_instructions_gives_the_same_bytes():
    """torch takes other kernels there: slower, not other."""
    here: dict[str, str] = {}
    exec(DIGEST, here)
    told = "print(torch.backends.cpu.get_cpu_capability(), digest)"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DIGEST + told]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["DEFAULT", here["digest"]]
