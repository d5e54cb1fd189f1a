"""A job of several slides with a network: batches span them, and each file is what it would be alone."""

import time

import pytest
import torch
from safetensors.torch import save_file

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json, sidecar
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.network import create_architecture
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.tile import run_tile

KINDS = ("tumor", "empty", "normal", "bounds")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(
        create_architecture("test_vit", model_arguments={}, pretrained=False).network.state_dict(), path
    )
    return path


@pytest.fixture
def settings(weights):
    embed = {"encoder": "test_vit", "weights": str(weights), "batch_size": 16}
    return parse_settings({"tile": {"tile_px": 96}, "embed": embed}, where="test")


@pytest.fixture
def rows(tmp_path, synthetic_slide, settings):
    slides = [synthetic_slide(kind) for kind in KINDS]
    rows = [SlideRow(s.path.stem, s.path, s.label, s.path.stem, "", None, None, "") for s in slides]
    masks = tmp_path / "masks"
    run_mask(rows, masks_dir=masks, status_path=tmp_path / "m.csv", settings=settings)
    tiles = {"masks_dir": masks, "tiles_dir": tmp_path / "tiles"}
    run_tile(rows, **tiles, status_path=tmp_path / "t.csv", settings=settings)
    return rows


def run(rows, folder, settings):
    found = run_embed(
        rows,
        tiles_dir=folder / "tiles",
        features_dir=folder / "features",
        status_path=folder / "chunk.csv",
        settings=settings,
        workers=2,
    )
    return found, [(folder / "features" / f"{row.slide_id}.h5").read_bytes() for row in rows]


def test_slides_of_one_job_have_the_files_that_they_have_alone(rows, tmp_path, settings):
    statuses, together = run(rows, tmp_path, settings)
    assert [row.status for row in statuses] == [SlideStatus.OK, SlideStatus.EMPTY, *[SlideStatus.OK] * 2]
    tiles = [row.tiles for row in statuses]
    assert tiles[0] % 16
    assert sum(tiles) > 16  # the second batch at the latest holds tiles of two slides
    for row, expected in zip(rows, together, strict=True):
        path = tmp_path / "features" / f"{row.slide_id}.h5"
        path.unlink()
        assert run([row], tmp_path, settings)[1] == [expected] or row.slide_id == "empty"
        assert read_features(path).header["status"] == ("empty" if row.slide_id == "empty" else "ok")


def test_files_that_are_there_do_not_change_those_that_are_remade(rows, tmp_path, settings):
    """What a job killed after its first slide leaves: the second run's batches begin elsewhere."""
    _, first = run(rows, tmp_path, settings)
    for row in rows[1:]:
        (tmp_path / "features" / f"{row.slide_id}.h5").unlink()
    assert run(rows, tmp_path, settings)[1] == first


def test_seconds_and_energy_are_told_beside_the_files(rows, tmp_path, settings):
    started = time.perf_counter()
    statuses, _ = run(rows, tmp_path, settings)
    wall = time.perf_counter() - started
    assert 0 < sum(row.seconds for row in statuses) <= wall + 0.0005 * len(statuses)  # each is rounded
    energy = read_json(sidecar(tmp_path / "chunk.csv"), remake="")["energy"]
    assert list(energy["kwh"]) == list(KINDS)
    counted = [kwh for kwh in energy["kwh"].values() if kwh is not None]
    assert len(counted) == (len(KINDS) if "processor packages" in energy["source"] else 0)
    assert all(kwh >= 0 for kwh in counted)
    assert "energy" not in read_features(tmp_path / "features" / "normal.h5").header


def test_an_encoder_without_a_network_has_nothing_to_compile(rows, tmp_path):
    plain = parse_settings({"tile": {"tile_px": 96}, "embed": {"compile": True}}, where="test")
    with pytest.raises(BadInput, match=r"embed\.compile has nothing to do; remove it"):
        run(rows, tmp_path, plain)
