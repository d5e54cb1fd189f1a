"""A run on a distilled encoder: pixels -> small encoder -> the same line; `infer` repeats its numbers."""

import pytest

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.files import file_hash, read_json
from wsi_kd.features.store import read_features
from wsi_kd.inference.tables import read_predictions
from wsi_kd.settings.all import parse_settings
from wsi_kd.settings.distill_encoder import DistillEncoderSettings
from wsi_kd.settings.faults import parse
from wsi_kd.steps.distill_encoder import run_distill_encoder
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.split import run_split
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import run_train

pytestmark = pytest.mark.slow


def settings_of(**embed):
    value = {
        "mask": {"mask_mpp": 2.0},
        "tile": {"tile_px": 64},
        "embed": {**embed, "device": "cpu"},
        "split": {"folds": 3},
        "train": {"recipes": ["weno", "distill"], "epochs": 2, "hidden_dim": 16, "device": "cpu"},
        "predict": {"device": "cpu"},
    }
    return parse_settings(value, where="test")


@pytest.fixture(scope="module")
def run(synthetic_cohort, tmp_path_factory):
    """Drawn slides: their pixels, an encoder distilled from stain_texture, its features, two models."""
    root = tmp_path_factory.mktemp("distilled")
    manifest = read_manifest(synthetic_cohort.manifest, slides_dir=None, classes=["normal", "tumor"])
    rows = manifest.rows
    pixels = settings_of(encoder="pixels", input_px=32)
    run_mask(rows, masks_dir=root / "masks", status_path=root / "mask.csv", settings=pixels)
    run_tile(
        rows,
        masks_dir=root / "masks",
        tiles_dir=root / "tiles",
        status_path=root / "tile.csv",
        settings=pixels,
    )
    embed = {"tiles_dir": root / "tiles"}
    run_embed(rows, **embed, features_dir=root / "pixels", status_path=root / "pixels.csv", settings=pixels)
    value = {
        "data": {
            "name": "tiles",
            "pixels_dir": str(root / "pixels"),
            "tiles_per_slide": 16,
            "batch_size": 32,
        },
        "student": {"model_arguments": {"channels": [4, 8]}},
        "teacher": {"encoder": "stain_texture"},
        "train": {"epochs": 2},
    }
    small = parse(DistillEncoderSettings, value, where="test")
    run_distill_encoder(small, out=root / "small", say=lambda line: None)
    settings = settings_of(encoder=f"distilled:{root / 'small'}")
    run_embed(
        rows, **embed, features_dir=root / "features", status_path=root / "embed.csv", settings=settings
    )
    splits = root / "splits.csv"
    run_split(
        manifest,
        status_paths=[root / "embed.csv"],
        splits_path=splits,
        status_path=root / "all.csv",
        settings=settings,
    )
    shared = {"features_dir": root / "features", "splits_path": splits, "fold": 0, "settings": settings}
    for recipe, large in (("weno", None), ("distill", root / "weno")):
        run_train(manifest=manifest, recipe=recipe, seed=0, out_dir=root / recipe, large_dir=large, **shared)
    run_predict(manifest, model_dir=root / "distill", out_dir=root / "predictions", **shared)
    return root, manifest


def test_the_features_name_the_encoder_by_its_hash(run):
    root, manifest = run
    file = read_features(root / "features" / f"{manifest.rows[0].slide_id}.h5")
    sha256 = file_hash(root / "small" / "encoder.safetensors")
    assert file.features.shape[1] == file.header["feature_dim"] == 8
    assert file.header["encoder"] == "distilled:small"
    assert file.header["weights_hash"] == sha256
    assert file.header["encoder_settings"]["input_px"] == 32
    assert file.features.std() > 0
    assert read_json(root / "distill" / "model.json", remake="")["weights_hash"] == sha256


def test_infer_gives_the_workflows_numbers(run, tmp_path):
    root, manifest = run
    expected = next(
        row for row in read_predictions(root / "predictions" / "predictions.csv").rows if row.part == "test"
    )
    (row,) = (row for row in manifest.rows if row.slide_id == expected.slide_id)
    unlabeled = row._replace(label="", annotation=None)
    moved = (root / "small").rename(root / "moved")
    try:
        weights = moved / "encoder.safetensors"
        run_infer([unlabeled], model_dir=root / "distill", out_dir=tmp_path, device="cpu", weights=weights)
    finally:
        moved.rename(root / "small")
    answer = read_json(tmp_path / "prediction.json", remake="wsi-kd infer")
    assert answer["status"] == "ok"
    for role in ("teacher", "student"):
        expected_probability = getattr(expected, f"{role}_probability")
        assert answer["probabilities"][role]["tumor"] == pytest.approx(expected_probability, abs=1e-6)
