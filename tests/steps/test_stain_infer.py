"""`infer` with stain normalization gives the workflow's numbers: they travel in the checkpoint."""

import pytest

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.features.store import read_features
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.tables import read_predictions
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.split import run_split
from wsi_kd.steps.stain import run_stain
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import run_train
from wsi_kd.training.checkpoint import load_model

pytestmark = pytest.mark.slow


def settings_of(**stain):
    return parse_settings(
        {
            "mask": {"mask_mpp": 2.0},
            "tile": {"tile_px": 64},
            "stain": {"tiles": 12, **stain},
            "split": {"folds": 3},
            "train": {"epochs": 2, "hidden_dim": 16, "attention_dim": 8, "device": "cpu"},
        },
        where="test",
    )


@pytest.mark.parametrize("fit", ["slide", "cohort"])
def test_infer_gives_the_workflows_numbers(synthetic_cohort, tmp_path, fit):
    target = tmp_path / "target.tiff"
    target.write_bytes(synthetic_cohort.slides[3].path.read_bytes())
    settings = settings_of(method="macenko", fit=fit, target=str(target))
    manifest = read_manifest(synthetic_cohort.manifest, slides_dir=None, classes=["normal", "tumor"])
    rows, masks, tiles, features = manifest.rows, tmp_path / "m", tmp_path / "t", tmp_path / "f"
    status = {name: tmp_path / f"{name}.csv" for name in ("mask", "tile", "embed", "all")}
    run_mask(rows, masks_dir=masks, status_path=status["mask"], settings=settings)
    run_tile(rows, masks_dir=masks, tiles_dir=tiles, status_path=status["tile"], settings=settings)
    stain = tmp_path / "stain.json"
    if fit == "cohort":
        run_stain(rows, tiles_dir=tiles, stain_path=stain, settings=settings)
    run_embed(
        rows,
        tiles_dir=tiles,
        features_dir=features,
        status_path=status["embed"],
        settings=settings,
        stain_path=stain,
    )
    splits = tmp_path / "splits.csv"
    run_split(
        manifest,
        status_paths=[status["embed"]],
        splits_path=splits,
        status_path=status["all"],
        settings=settings,
    )
    run = {"features_dir": features, "splits_path": splits, "fold": 0, "settings": settings}
    model = tmp_path / "model"
    run_train(manifest=manifest, recipe="weno", seed=0, out_dir=model, **run)
    run_predict(manifest, model_dir=model, out_dir=tmp_path / "p", **run)
    target.unlink()
    stain.unlink(missing_ok=True)
    table = read_predictions(tmp_path / "p" / "predictions.csv")
    expected = next(row for row in table.rows if row.part == "test")
    (row,) = (row for row in rows if row.slide_id == expected.slide_id)
    elsewhere = row._replace(slide_id="renamed", label="", annotation=None)
    run_infer([elsewhere], model_dir=model, out_dir=tmp_path / "out", device="cpu")
    answer = read_json(tmp_path / "out" / "prediction.json", remake="")
    assert answer["probabilities"]["teacher"]["tumor"] == pytest.approx(
        expected.teacher_probability, abs=1e-6
    )
    assert answer["settings"]["stain"]["target"] == "target.tiff"
    _refuses_other_stains(model, features / f"{row.slide_id}.h5")


def _refuses_other_stains(model, features):
    loaded, file = load_model(model), read_features(features)
    other = file._replace(header={**file.header, "stain": {}})
    predict_slide(loaded, file, device=next(loaded.model.parameters()).device)
    with pytest.raises(BadInput, match="the features have stain None"):
        predict_slide(loaded, other, device=next(loaded.model.parameters()).device)
