"""An encoder of the table through the step embed: identity of its weights, notes, offline folder."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from random_encoders import save_weights, small_row

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps import encoder as steps_encoder
from wsi_kd.steps import infer_model
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.encoder import build_encoder, resizing_identity, weights_identity
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.tile import run_tile

TINY = "tiny"


@pytest.fixture
def weights_dir(tmp_path, monkeypatch):
    """A row of the table with a small network, and its weights in an offline folder."""
    row = small_row("virchow2")._replace(name=TINY)
    monkeypatch.setitem(ENCODERS, TINY, row)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "offline"
    folder.mkdir()
    save_weights(row, folder / f"{TINY}.safetensors")
    return folder


def settings_of(**embed):
    sections = {"tile": {"tile_px": 64}, "embed": {"encoder": TINY, "device": "cpu", **embed}}
    return parse_settings(sections, where="test")


@pytest.fixture
def job(tmp_path, synthetic_slide):
    """Runs the step on one tiled slide and returns its feature file."""
    slide = synthetic_slide("tumor")
    rows = [SlideRow(slide.path.stem, slide.path, slide.label, slide.path.stem, "", None, None, "")]
    masks, tiles, features = (tmp_path / name for name in ("masks", "tiles", "features"))
    plain = parse_settings({"tile": {"tile_px": 64}}, where="test")
    run_mask(rows, masks_dir=masks, status_path=tmp_path / "mask.csv", settings=plain)
    run_tile(
        rows,
        masks_dir=masks,
        tiles_dir=tiles,
        status_path=tmp_path / "tile.csv",
        settings=plain,
        negative_label="normal",
    )

    def work(settings):
        run_embed(
            rows,
            tiles_dir=tiles,
            features_dir=features,
            status_path=tmp_path / "embed.csv",
            settings=settings,
            workers=0,
        )
        return features / f"{slide.path.stem}.h5"

    return work


def test_features_carry_the_weights_and_a_note_on_the_scale(job, weights_dir, caplog):
    with caplog.at_level(logging.WARNING):
        path = job(settings_of(weights_dir=str(weights_dir)))
    found = read_features(path)
    assert found.features.shape[1] == 96
    assert np.isfinite(found.features).all()
    assert found.header["weights_hash"] == file_hash(weights_dir / f"{TINY}.safetensors")
    assert found.header["encoder_settings"]["interpolation"] == "bicubic"
    (note,) = found.header["encoder_notes"]
    assert "tiles of 64 px are resized to 224 px and seen at 0.14 um/px" in note
    assert sum(note in record.getMessage() for record in caplog.records) == 1


def test_a_folder_that_moved_keeps_the_features_and_other_weights_do_not(job, weights_dir, tmp_path):
    path = job(settings_of(weights_dir=str(weights_dir)))
    made = path.stat().st_mtime_ns
    moved = shutil.move(weights_dir, tmp_path / "moved")
    assert job(settings_of(weights_dir=str(moved))).stat().st_mtime_ns == made
    save_weights(ENCODERS[TINY], moved / f"{TINY}.safetensors", seed=5)
    assert job(settings_of(weights_dir=str(moved))).stat().st_mtime_ns != made


def test_features_of_tiles_that_were_resized_otherwise_are_made_anew(job, monkeypatch):
    settings = settings_of(encoder="pixels", input_px=16)
    made = job(settings).stat().st_mtime_ns
    assert job(settings).stat().st_mtime_ns == made
    monkeypatch.setattr(steps_encoder, "RESIZING", 1)
    assert job(settings).stat().st_mtime_ns != made
    assert resizing_identity(EmbedSettings(encoder=TINY)) == {"resizing": 1}
    assert resizing_identity(EmbedSettings(encoder="stain_texture")) == {}  # which takes tiles as they are


def test_a_given_file_wins_over_the_folder(weights_dir, tmp_path):
    save_weights(ENCODERS[TINY], tmp_path / "mine.safetensors", seed=7)
    embed = EmbedSettings(encoder=TINY, weights_dir=weights_dir, device="cpu")
    mine = embed.model_copy(update={"weights": tmp_path / "mine.safetensors"})
    assert weights_identity(embed) == {"weights_sha256": file_hash(weights_dir / f"{TINY}.safetensors")}
    assert weights_identity(mine) == {"weights_sha256": file_hash(tmp_path / "mine.safetensors")}
    tiles = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    assert not np.allclose(build_encoder(embed)(tiles), build_encoder(mine)(tiles), atol=1e-2)


def test_infer_forgets_the_training_machines_folder(weights_dir, tmp_path):
    """On another machine the weights come from --weights or the cache; their hash is compared anyway."""
    there = settings_of(weights_dir=str(tmp_path / "of the training's machine")).model_dump(mode="json")
    here = settings_of(weights_dir=str(weights_dir)).model_dump(mode="json")
    for sections, kept in ((there, None), (here, weights_dir)):
        loaded = SimpleNamespace(header={"sections": sections})
        found = infer_model._settings(
            loaded, device="cpu", weights=None, network=None, where=tmp_path / "model.json"
        )
        assert found.embed.weights_dir == kept


def test_settings_that_the_authors_fix_are_refused(weights_dir):
    embed = EmbedSettings(encoder=TINY, weights_dir=weights_dir, pixel_mean=(0.5, 0.5, 0.5))
    with pytest.raises(BadInput, match=r"takes no embed\.pixel_mean; remove it, or build your own"):
        build_encoder(embed)


def test_no_network_takes_no_offline_folder_amiss(tmp_path):
    """A folder for all encoders may stay set while one without weights is used."""
    embed = EmbedSettings(encoder="stain_texture", weights_dir=tmp_path, device="cpu")
    assert weights_identity(embed) == {}
    assert build_encoder(embed).feature_dim == 100
