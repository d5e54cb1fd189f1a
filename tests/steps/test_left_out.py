import numpy as np
import pytest
import shapely
from drawn_defects import plain_slide, slide_row, with_blur, with_pen

from wsi_kd.features.quality_columns import UNKNOWN
from wsi_kd.features.store import read_features
from wsi_kd.report.cohort import status_section
from wsi_kd.report.page import Table
from wsi_kd.report.slide_quality import slide_quality
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.status import read_status
from wsi_kd.steps.tile import run_tile

BLURRED = shapely.Point(760, 400).buffer(230)
STROKE = shapely.box(200, 60, 400, 700)


class Run:
    """A slide with pen (not taken out of its tissue) and a piece out of focus, tiled once."""

    def __init__(self, folder):
        self.folder = folder
        self.row = slide_row(folder, with_blur(with_pen(plain_slide()).pixels).pixels)
        settings = self.settings()
        common = {"settings": settings, "status_path": folder / "x.csv"}
        run_mask([self.row], masks_dir=folder, **common)
        run_tile([self.row], masks_dir=folder, tiles_dir=folder / "tiles", **common)

    @staticmethod
    def settings(**embed):
        sections = {"mask": {"pen_colors": []}, "tile": {"tile_px": 64, "min_tiles": 5}, "embed": embed}
        return parse_settings(sections, where="test")

    def embed(self, **embed):
        run_embed(
            [self.row],
            tiles_dir=self.folder / "tiles",
            features_dir=self.folder / "features",
            status_path=self.folder / "embed.csv",
            settings=self.settings(**embed),
            workers=0,
        )
        return read_features(self.folder / "features" / "slide.h5"), read_status(self.folder / "embed.csv")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("left_out"))


def inside(coords, area):
    return shapely.contains(area, shapely.box(*coords.T, *(coords.T + 64)))


def test_every_tile_is_measured_and_by_default_none_is_left_out(run):
    found, status = run.embed()
    quality = found.quality
    assert len(found.coords) == status.tiles == status.tiles_laid > 60
    assert (quality.tissue_fraction >= 0.5).all()
    blurred = inside(found.coords, BLURRED)
    sharp = ~blurred & (found.coords[:, 0] < 500)
    assert np.median(quality.sharpness[blurred]) < 0.4 * np.median(quality.sharpness[sharp])
    assert (np.array(quality) > UNKNOWN).all()
    assert found.header["dropped_blurred"] == found.header["dropped_pen"] == 0


def test_blurred_tiles_are_left_out_and_counted(run):
    everything, _ = run.embed()
    limit = 0.3
    found, status = run.embed(min_sharpness=limit)
    expected = everything.quality.sharpness >= limit
    assert 0 < expected.sum() < len(expected)
    assert np.array_equal(found.coords, everything.coords[expected])
    assert np.array_equal(found.features, everything.features[expected])
    assert np.array_equal(found.quality.sharpness, everything.quality.sharpness[expected])
    assert found.header["dropped_blurred"] == status.dropped_blurred == (~expected).sum()
    assert status.tiles_laid == status.tiles + status.dropped_blurred == len(expected)
    left_out = everything.coords[~expected]
    assert inside(left_out[left_out[:, 0] > 500], BLURRED.buffer(60)).mean() > 0.9


def test_background_is_left_out_whatever_the_workers_and_batches(run):
    everything, _ = run.embed()
    found, status = run.embed(max_background_fraction=0.2, batch_size=7)
    expected = everything.quality.background_fraction <= 0.2
    assert np.array_equal(found.coords, everything.coords[expected])
    assert status.dropped_background == (~expected).sum() > 0


def test_too_few_tiles_left_end_the_slide_with_the_reasons(run):
    found, status = run.embed(min_sharpness=9.0)
    assert len(found.coords) == len(found.quality.sharpness) == 0
    assert status.status == "too_few_tiles"
    assert f"0 of {status.tiles_laid} tiles are left, 5 needed" in status.reason
    assert f"{status.dropped_blurred} by embed.min_sharpness" in status.reason
    fourth = float(np.sort(run.embed()[0].quality.sharpness)[-4])
    found, status = run.embed(min_sharpness=fourth)
    assert (status.status, status.tiles) == ("too_few_tiles", 0)
    assert f"4 of {status.tiles_laid} tiles are left, 5 needed" in status.reason


def test_the_report_tells_the_shares(run):
    found, status = run.embed(min_sharpness=0.3)
    tables = [
        block
        for block in status_section([slide_quality(status, found.header)]).blocks
        if isinstance(block, Table)
    ]
    told = [cell.text for cell in tables[-1].rows[0]]
    assert f"{status.dropped_blurred / status.tiles_laid:.1%} blurred" in told


def test_inks_of_the_mask_are_those_of_the_tiles(tmp_path):
    """Pen that was taken out of the tissue may still lie on the edge of tiles, and is measured there."""
    run = Run.__new__(Run)
    run.folder, run.row = tmp_path, slide_row(tmp_path, with_pen(plain_slide()).pixels)
    settings = parse_settings({"tile": {"tile_px": 64, "min_tissue_fraction": 0.05}}, where="test")
    common = {"settings": settings, "status_path": tmp_path / "x.csv"}
    run_mask([run.row], masks_dir=tmp_path, **common)
    run_tile([run.row], masks_dir=tmp_path, tiles_dir=tmp_path / "tiles", **common)
    found, _ = run.embed()
    pen = found.quality.pen_fraction
    far = shapely.distance(STROKE, shapely.box(*found.coords.T, *(found.coords.T + 64))) > 60
    assert pen[far].max() < 0.05
    assert pen.max() > 0.2
    few, status = run.embed(max_pen_fraction=0.1)
    assert status.dropped_pen == (pen > 0.1).sum() > 0
    assert few.quality.pen_fraction.max() <= 0.1
