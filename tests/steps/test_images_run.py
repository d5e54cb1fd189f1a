"""`embed.encoder: pixels` through the workflow's steps and `infer`, on drawn slides."""

import numpy as np
import openslide
import pytest
import torch
from PIL import Image

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.files import read_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.evaluation.baselines import slide_vector
from wsi_kd.features.store import read_features
from wsi_kd.inference.tables import read_predictions, read_tiles_csv
from wsi_kd.mil.projectors import ImageProjector
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.evaluate import run_evaluate
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.split import run_split
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import run_train
from wsi_kd.training.checkpoint import load_model

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6
SETTINGS = parse_settings(
    {
        "mask": {"mask_mpp": 2.0},
        "tile": {"tile_px": 64},
        "embed": {"encoder": "pixels", "input_px": 32},
        "split": {"folds": 3},
        "train": {
            "recipes": ["weno"],
            "projector": "cnn_small",
            "image_chunk": 16,
            "epochs": 2,
            "hidden_dim": 16,
            "attention_dim": 8,
            "device": "cpu",
        },
        "predict": {"device": "cpu"},
        "evaluate": {"bootstrap_samples": 100},
    },
    where="test",
)


@pytest.fixture(scope="module")
def run(synthetic_cohort, tmp_path_factory):
    """A run's folder after mask, tile, embed, split, train and predict of fold 0, and its manifest."""
    root = tmp_path_factory.mktemp("images")
    manifest = read_manifest(synthetic_cohort.manifest, slides_dir=None, classes=["normal", "tumor"])
    masks, tiles, features, splits = (root / name for name in ("masks", "tiles", "features", "splits.csv"))
    made = {"settings": SETTINGS}
    run_mask(manifest.rows, masks_dir=masks, status_path=root / "mask.csv", **made)
    run_tile(manifest.rows, masks_dir=masks, tiles_dir=tiles, status_path=root / "tile.csv", **made)
    embedded = root / "embed.csv"
    run_embed(manifest.rows, tiles_dir=tiles, features_dir=features, status_path=embedded, **made)
    run_split(manifest, status_paths=[embedded], splits_path=splits, status_path=root / "all.csv", **made)
    shared = {"features_dir": features, "splits_path": splits, "fold": 0, **made}
    run_train(manifest=manifest, recipe="weno", seed=0, out_dir=root / "model", **shared)
    run_predict(manifest, model_dir=root / "model", out_dir=root / "predictions", **shared)
    return root, manifest


def test_features_are_the_tiles_of_the_slide(run):
    root, manifest = run
    row = manifest.rows[0]
    file = read_features(root / "features" / f"{row.slide_id}.h5")
    assert file.features.dtype == np.uint8
    assert file.header["feature_dtype"] == "uint8"
    assert file.header["feature_dim"] == file.features.shape[1] == 3 * 32 * 32
    found = file.features[3].reshape(32, 32, 3).astype(int)
    with openslide.OpenSlide(row.path) as slide:
        region = np.asarray(slide.read_region(tuple(file.coords[3].tolist()), 0, (64, 64)))[..., :3]
    expected = np.asarray(Image.fromarray(region).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(found - expected).max() <= 1.0
    assert found.std() > 10


def test_the_checkpoint_rebuilds_the_image_model(run):
    root, _ = run
    loaded = load_model(root / "model")
    assert loaded.header["model"]["projector"] == "cnn_small"
    assert loaded.header["encoder_settings"] == {
        "input_px": 32,
        "interpolation": "bilinear",
        "dtype": "uint8",
    }
    assert isinstance(loaded.model.projector, ImageProjector)
    assert loaded.model.projector.tile_px == 32
    colors = loaded.model.scaling.mean[:3]
    assert colors[1] < colors[0] < 255  # eosin takes green out of the light


def test_infer_gives_the_workflows_numbers(run, tmp_path):
    root, manifest = run
    table = read_predictions(root / "predictions" / "predictions.csv")
    expected = next(row for row in table.rows if row.part == "test" and row.label == "tumor")
    (row,) = (row for row in manifest.rows if row.slide_id == expected.slide_id)
    unlabeled = row._replace(label="", annotation=None)
    (status,) = run_infer([unlabeled], model_dir=root / "model", out_dir=tmp_path, device="cpu")
    answer = read_json(tmp_path / "prediction.json", remake="wsi-kd infer")
    assert answer["status"] == status.status == SlideStatus.OK
    for role in ("teacher", "student"):
        found = answer["probabilities"][role]["tumor"]
        assert found == pytest.approx(getattr(expected, f"{role}_probability"), abs=TOLERANCE)
    found = read_tiles_csv(tmp_path / "tiles.csv")
    tiles = read_tiles_csv(root / "predictions" / "tiles" / f"{expected.slide_id}.csv")
    assert np.array_equal(found.coords, tiles.coords)
    for name in ("attention", "evidence"):
        assert np.abs(getattr(found, name) - getattr(tiles, name)).max() < TOLERANCE, name


def test_slides_like_those_of_the_training_are_near(run):
    """By the colors of tiles: near 1 for tissue of the same stain, far for tiles in the dark."""
    root, manifest = run
    model = load_model(root / "model").model
    rows = torch.from_numpy(read_features(root / "features" / f"{manifest.rows[-1].slide_id}.h5").features)
    alike, unlike = model.distances(rows).median(), model.distances(rows // 8).median()
    assert 0.3 < alike < 2.0 < unlike


def test_the_baseline_of_pixels_is_their_mean_color(run, tmp_path):
    root, manifest = run
    metrics = run_evaluate(
        manifest,
        features_dir=root / "features",
        splits_path=root / "splits.csv",
        status_path=root / "all.csv",
        prediction_dirs=[root / "predictions"],
        out_dir=tmp_path,
        settings=SETTINGS,
    )
    assert set(metrics["baselines"]) == {"bag_mean"}
    file = read_features(root / "features" / f"{manifest.rows[0].slide_id}.h5")
    colors = file.features.reshape(-1, 3).astype(np.float64)
    assert slide_vector(file.features) == pytest.approx(colors.mean(axis=0))
