"""The recipe of docs/slides.md for a slide that cannot be read: what converters write is the same slide."""

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.pyramid import plan_read
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

PAGE = Path(__file__).resolve().parents[2] / "docs/slides.md"
pytestmark = pytest.mark.shared_data
by_vips = pytest.mark.skipif(shutil.which("vips") is None, reason="needs vips (libvips-tools)")
by_bfconvert = pytest.mark.skipif(shutil.which("bfconvert") is None, reason="needs bfconvert (Bio-Formats)")


def converted(source, out, *, command="vips tiffsave"):
    """Run the page's own line on a file."""
    line = next(line for line in PAGE.read_text().splitlines() if line.strip().startswith(f"{command} "))
    named = dict.fromkeys(["in.svs", "in.vsi"], str(source)) | dict.fromkeys(
        ["out.tif", "out.ome.tif"], str(out)
    )
    words = [named.get(word, word) for word in shlex.split(line)]
    subprocess.run(words, check=True, timeout=300, capture_output=True)
    return open_slide(out, background="metadata")


def mpp_of(reader):
    limits = SlidesSettings()
    return resolve_mpp(
        reader.properties,
        override=None,
        min_mpp=limits.min_mpp,
        max_mpp=limits.max_mpp,
        from_objective=False,
        max_anisotropy=limits.max_anisotropy,
    ).mpp


def level0(reader):
    width, height = reader.level_dimensions[0]
    region = {"x_level0_px": 0, "y_level0_px": 0, "level": 0, "width_px": width, "height_px": height}
    return reader.read_region(**region).astype(int)


@by_vips
@pytest.mark.parametrize("name", ["wsi/CMU-1-Small-Region.svs", "derived/os2_ki67_4level_generic_mpp.tif"])
def test_vips_keeps_resolution_and_pixels_and_adds_levels_that_are_read_fast(shared_data, tmp_path, name):
    with (
        open_slide(shared_data / name, background="metadata") as original,
        converted(shared_data / name, tmp_path / "out.tif") as copy,
    ):
        assert copy.level_dimensions[0] == original.level_dimensions[0]
        assert [round(downsample) for downsample in copy.level_downsamples] == [1, 2, 4, 8]
        assert mpp_of(copy) == pytest.approx(mpp_of(original), rel=1e-6)
        assert np.abs(level0(copy) - level0(original)).mean() < 0.5
        plan = plan_read(
            copy.level_downsamples, slide_mpp=mpp_of(copy), tile_mpp=0.5, tile_px=256, mpp_tolerance=0.05
        )
        source = open_tile_source(copy, plan, np.array([[0, 0], [512, 512]], np.int64))
        assert source.how == "stored JPEG tiles by offset"
        source.close()


@by_vips
def test_a_converted_ome_tiff_has_its_levels_beside_the_xml_of_the_original(shared_data, tmp_path):
    """The XML that vips copies names the first page alone. Its colors are false: the page says why."""
    path = shared_data / "wsi/OS-1-detail.ome.tif"
    with (
        open_slide(path, background="metadata") as original,
        converted(path, tmp_path / "out.tif") as copy,
    ):
        assert copy.level_dimensions == ((1101, 1101), (550, 550), (275, 275))
        assert mpp_of(copy) == pytest.approx(mpp_of(original), rel=1e-6)
        red, green, blue = level0(original).mean(axis=(0, 1))
        assert green < red < blue


@pytest.mark.slow
@by_bfconvert
@pytest.mark.parametrize(
    "name",
    ["wsi/CMU-1-Small-Region.svs", "wsi/OS-1-detail.ome.tif", "derived/os2_ki67_4level_generic_mpp.tif"],
)
def test_bfconvert_keeps_resolution_and_colors_and_takes_no_label_along(shared_data, tmp_path, name):
    with (
        open_slide(shared_data / name, background="metadata") as original,
        converted(shared_data / name, tmp_path / "out.ome.tif", command="bfconvert") as copy,
    ):
        assert (copy.format, copy.associated) == ("tiff/ome", {})
        assert copy.level_dimensions == original.level_dimensions[:1]
        assert mpp_of(copy) == pytest.approx(mpp_of(original), rel=1e-8)
        difference = np.abs(level0(copy) - level0(original))
        assert (difference.mean() < 0.7, difference.max() <= 15) == (True, True)


@pytest.mark.slow
@by_bfconvert
def test_bfconvert_keeps_the_levels_of_a_scanner(shared_data, tmp_path):
    """They are Hamamatsu's own, not every second pixel; the finest is interleaved, the others are planes."""
    path = shared_data / "wsi/test3-DAPI-2-_387_.ndpi"
    with (
        open_slide(path, background="metadata") as original,
        converted(path, tmp_path / "out.ome.tif", command="bfconvert") as copy,
    ):
        assert copy.level_dimensions == ((3968, 4864), (1984, 2432), (992, 1216), (496, 608))
        region = {"x_level0_px": 800, "y_level0_px": 1600, "level": 1, "width_px": 900, "height_px": 700}
        difference = copy.read_region(**region).astype(int) - original.read_region(**region)
        assert np.abs(difference).mean() < 1
        for level, how in ((0, "stored JPEG tiles by offset"), (1, "tiff/ome: planes 2; expected 1")):
            tile_mpp = mpp_of(copy) * 2**level
            plan = plan_read(
                copy.level_downsamples,
                slide_mpp=mpp_of(copy),
                tile_mpp=tile_mpp,
                tile_px=256,
                mpp_tolerance=0.05,
            )
            source = open_tile_source(copy, plan, np.array([[0, 0], [512, 512]], np.int64))
            assert (plan.level, source.how) == (level, how)
            source.close()
