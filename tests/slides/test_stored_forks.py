"""A source whose process is forked while a thread of the parent is at work."""

import multiprocessing

import numpy as np
from jpeg_tiffs import tissue, write_tiff

from wsi_kd.slides.pyramid import ReadPlan
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

PLAN = ReadPlan(0, 64, 64, 64.0, 64.0)
COORDS = np.array([[11, 11], [75, 11], [11, 75]], np.int64)


def test_a_child_forked_while_a_thread_holds_the_lock_reads_on(tmp_path):
    slide = write_tiff(tmp_path / "slide.tif", tissue(384, 256), subsampling="420")
    with open_slide(slide, background="metadata") as reader:
        source = open_tile_source(reader, PLAN, COORDS)
        assert source.how == "stored JPEG tiles by offset"
        with source._decoded._lock:
            child = multiprocessing.get_context("fork").Process(
                target=source.read, args=tuple(COORDS[0].tolist()), daemon=True
            )
            child.start()
        child.join(timeout=120)
        exit_code = child.exitcode
        child.kill()
        source.close()
    assert exit_code == 0
