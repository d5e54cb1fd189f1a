import re

import numpy as np
import pytest

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import read_features, read_header, read_tiles
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps import embed as embed_step
from wsi_kd.steps.embed import embed_slide, run_embed
from wsi_kd.steps.mask import mask_slide, run_mask
from wsi_kd.steps.status import read_status
from wsi_kd.steps.tile import run_tile, tile_slide


def settings_of(**embed):
    return parse_settings({"tile": {"tile_px": 64}, "embed": embed}, where="test")


def row_of(slide):
    return SlideRow(slide.path.stem, slide.path, slide.label, slide.path.stem, "", None, None, "")


def tiles_of(slide, settings):
    return tile_slide(mask_slide(row_of(slide), settings), row_of(slide), settings)


class CountingEncoder:
    """Mean color of a tile; counts how often it was built and what it encoded."""

    name = "counting"
    feature_dim = 3
    input_px = None
    weights_hash = "w"
    feature_names = ()
    encodes_in_threads = False

    def __init__(self, factor=1.0):
        self.settings = {"factor": factor}
        self.factor = factor
        self.tiles = 0

    def __call__(self, tiles):
        self.tiles += len(tiles)
        return np.float32(self.factor) * tiles.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def built(monkeypatch):
    """Every encoder that run_embed builds."""
    encoders = []

    def build(embed):
        encoders.append(CountingEncoder())
        return encoders[-1]

    monkeypatch.setattr(embed_step, "build_encoder", build)
    return encoders


class Job:
    """The folders of one job, tiled and ready to be embedded."""

    def __init__(self, folder, slides):
        self.folder = folder
        self.rows = [row_of(slide) for slide in slides]
        self.features = folder / "features"
        self.status_path = folder / "chunk.csv"
        self.retile(settings_of())

    def retile(self, settings):
        masks, tiles = self.folder / "masks", self.folder / "tiles"
        run_mask(self.rows, masks_dir=masks, status_path=self.folder / "m.csv", settings=settings)
        run_tile(
            self.rows, masks_dir=masks, tiles_dir=tiles, status_path=self.folder / "t.csv", settings=settings
        )

    def run(self, settings=None):
        return run_embed(
            self.rows,
            tiles_dir=self.folder / "tiles",
            features_dir=self.features,
            status_path=self.status_path,
            settings=settings or settings_of(),
            workers=2,
        )

    def path(self, kind):
        return self.features / f"{kind}.h5"


@pytest.fixture
def job(tmp_path, synthetic_slide):
    return lambda *kinds: Job(tmp_path, [synthetic_slide(kind) for kind in kinds])


def test_half_precision_is_the_default_and_rounds_the_same_numbers(synthetic_slide):
    slide = synthetic_slide("normal")
    halves, singles = (
        embed_slide(tiles_of(slide, s), row_of(slide), CountingEncoder(), settings=s, workers=0)
        for s in (settings_of(), settings_of(dtype="float32"))
    )
    assert halves.features.dtype == np.float16
    assert np.array_equal(halves.features, singles.features.astype(np.float16))


def test_a_cohort_ends_with_one_status_a_slide(job):
    work = job("tumor", "empty", "missing_mpp", "truncated")
    statuses = work.run()
    assert [row.status for row in statuses[:3]] == [
        SlideStatus.OK,
        SlideStatus.EMPTY,
        SlideStatus.MISSING_MPP,
    ]
    assert statuses[3].status != SlideStatus.OK
    assert read_status(work.status_path) == statuses
    assert statuses[0].tiles == len(read_features(work.path("tumor")).coords) > 50
    for row in statuses[1:]:
        file = read_features(work.path(row.slide_id))
        assert file.features.shape == (0, 100)
        assert (file.header["status"], file.header["reason"]) == (row.status, row.reason)
        assert row.step in {"mask", "tile"}


def test_a_few_damaged_tiles_are_left_out_and_counted(synthetic_slide):
    slide, settings = synthetic_slide("damaged_tiles"), settings_of(max_damaged_fraction=0.5)
    tiles = tiles_of(slide, settings)
    if tiles.header["status"] != SlideStatus.OK:
        pytest.fail(f"the slide should be tiled, found {tiles.header['reason']}")
    found = embed_slide(tiles, row_of(slide), CountingEncoder(), settings=settings, workers=2)
    lost = len(tiles.coords) - len(found.coords)
    assert 0 < lost <= 16
    assert (found.header["status"], found.header["damaged_tiles"]) == ("ok", lost)
    assert 1 <= len(found.header["damaged_reasons"]) <= 3
    assert found.features.shape == (len(found.coords), 3)
    kept = {tuple(xy) for xy in found.coords.tolist()}
    missing = [xy for xy in tiles.coords.tolist() if tuple(xy) not in kept]
    assert all(256 - 64 <= x < 512 and 256 - 64 <= y < 512 for x, y in missing)


def test_too_many_damaged_tiles_end_the_slide(synthetic_slide):
    slide, settings = synthetic_slide("damaged_tiles"), settings_of(max_damaged_fraction=0.0)
    tiles = tiles_of(slide, settings)
    found = embed_slide(tiles, row_of(slide), CountingEncoder(), settings=settings, workers=2)
    assert found.header["status"] == SlideStatus.DAMAGED_TILES
    assert found.header["failed_in"] == "embed"
    assert re.match(
        rf"\d+ of {len(tiles.coords)} tiles cannot be read, embed.max_damaged_fraction allows 0%; first: ",
        found.header["reason"],
    )
    assert found.features.shape == (0, 3)
    assert found.coords.shape == (0, 2)


def test_a_slide_that_vanished_ends_as_unreadable(tmp_path, synthetic_slide, built):
    slide = synthetic_slide("normal")
    copy = slide._replace(path=tmp_path / slide.path.name)
    copy.path.write_bytes(slide.path.read_bytes())
    work = Job(tmp_path, [copy])
    copy.path.unlink()
    (row,) = work.run()
    assert (row.status, row.step) == (SlideStatus.UNREADABLE, "embed")
    assert "no such file" in row.reason


def test_a_slide_that_was_replaced_is_refused(tmp_path, synthetic_slide, built):
    slide = synthetic_slide("normal")
    copy = slide._replace(path=tmp_path / slide.path.name)
    copy.path.write_bytes(slide.path.read_bytes())
    work = Job(tmp_path, [copy])
    copy.path.write_bytes(synthetic_slide("tumor").path.read_bytes())
    with pytest.raises(BadInput, match=r"not the file that slide 'normal' was tiled from.*wsi-kd mask"):
        work.run()


def test_files_that_still_fit_are_kept_and_no_encoder_is_built(job, built):
    work = job("tumor", "normal", "empty")
    first = work.run()
    before = {path.name: path.stat().st_mtime_ns for path in work.features.iterdir()}
    again = work.run()
    assert len(built) == 1
    assert {path.name: path.stat().st_mtime_ns for path in work.features.iterdir()} == before
    assert [row._replace(seconds=0) for row in again] == [row._replace(seconds=0) for row in first]


def test_a_killed_job_loses_one_slide(job, built):
    work = job("tumor", "normal", "bounds")
    work.run()
    work.path("normal").unlink()
    damaged = bytearray(work.path("bounds").read_bytes())
    damaged[-100] ^= 1
    work.path("bounds").write_bytes(damaged)
    work.run()
    remade = sum(len(read_features(work.path(kind)).coords) for kind in ("normal", "bounds"))
    assert built[1].tiles == remade


@pytest.mark.parametrize(
    ("change", "remakes"),
    [
        ({"dtype": "float32"}, True),
        ({"encoder": "another"}, True),
        ({"max_damaged_fraction": 0.2}, True),
        ({"device": "cpu"}, False),
    ],
)
def test_what_shapes_features_remakes_them(job, built, change, remakes):
    work = job("normal")
    for settings in (settings_of(), settings_of(**change)):
        work.run(settings)
    assert len(built) == 1 + remakes


def test_other_tiles_remake_features(job, built):
    work = job("normal")
    work.run()
    work.retile(parse_settings({"tile": {"tile_px": 64, "overlap_px": 8}}, where="test"))
    work.run()
    assert len(built) == 2
    tiles = read_tiles(work.folder / "tiles" / "normal.h5")
    assert np.array_equal(read_features(work.path("normal")).coords, tiles.coords)


def test_no_encoder_is_built_for_a_job_without_tiles(job, built):
    work = job("empty", "missing_mpp")
    work.run()
    assert built == []
    assert read_features(work.path("empty")).features.shape == (0, 0)
    assert read_header(work.path("empty"))["weights_hash"] == ""


def test_equal_runs_give_equal_bytes(job):
    work = job("normal")
    work.run()
    first = work.path("normal").read_bytes()
    work.path("normal").unlink()
    work.run()
    assert work.path("normal").read_bytes() == first


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e4, r"beyond float16; set embed\.dtype: float32"), (np.nan, r"not finite; check embed\.weights")],
)
def test_values_that_the_file_cannot_hold_are_refused(synthetic_slide, factor, message):
    slide, settings = synthetic_slide("normal"), settings_of()
    with pytest.raises(BadInput, match=message):
        embed_slide(
            tiles_of(slide, settings), row_of(slide), CountingEncoder(factor), settings=settings, workers=0
        )


def test_missing_tiles_and_weights_are_one_line(job, tmp_path):
    work = job("normal")
    with pytest.raises(BadInput, match="no such weight file"):
        work.run(settings_of(encoder="test_vit", weights=str(tmp_path / "absent.safetensors")))
    (tmp_path / "tiles" / "normal.h5").unlink()
    with pytest.raises(BadInput, match="make it with: wsi-kd tile"):
        work.run()
    assert not work.status_path.exists()


def test_a_job_that_fails_keeps_the_slides_before(job, monkeypatch, built):
    work, calls, write = job("normal", "tumor"), [], embed_step.write_features

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            message = "the disk is gone"
            raise BadInput(message)
        return write(*arguments)

    monkeypatch.setattr(embed_step, "write_features", failing)
    with pytest.raises(BadInput, match="the disk is gone"):
        work.run()
    assert [path.name for path in work.features.iterdir()] == ["normal.h5"]
    assert not work.status_path.exists()
