"""infer against the workflow, on drawn slides and a model that the train step made of them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box, shape

from wsi_kd.bags.manifest import Manifest, SlideRow, read_manifest
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, read_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import read_features
from wsi_kd.inference.tables import read_predictions, read_tiles_csv
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.split import run_split
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import run_train
from wsi_kd.training.checkpoint import load_model, save_model

TOLERANCE = 1e-6
SETTINGS = parse_settings(
    {
        "mask": {"mask_mpp": 2.0},
        "tile": {"tile_px": 64},
        "embed": {"max_background_fraction": 0.3},
        "split": {"folds": 3},
        "train": {"epochs": 3, "hidden_dim": 16, "attention_dim": 8, "device": "cpu"},
    },
    where="test",
)


@dataclass
class Workflow:
    """A run's folder after mask, tile, embed, split, train and predict of fold 0."""

    root: Path
    manifest: Manifest

    @property
    def model_dir(self) -> Path:
        return self.root / "model"

    def row(self, slide_id: str) -> SlideRow:
        """The slide as `infer` gets it: no label, no annotation."""
        (row,) = (row for row in self.manifest.rows if row.slide_id == slide_id)
        return row._replace(label="", annotation=None)


@pytest.fixture(scope="module")
def workflow(synthetic_cohort, tmp_path_factory) -> Workflow:
    root = tmp_path_factory.mktemp("workflow")
    manifest = read_manifest(synthetic_cohort.manifest, slides_dir=None, classes=["normal", "tumor"])
    masks, tiles, features = root / "masks", root / "tiles", root / "features"
    status = {name: root / f"{name}.csv" for name in ("mask", "tile", "embed", "all")}
    run_mask(manifest.rows, masks_dir=masks, status_path=status["mask"], settings=SETTINGS)
    run_tile(manifest.rows, masks_dir=masks, tiles_dir=tiles, status_path=status["tile"], settings=SETTINGS)
    run_embed(
        manifest.rows,
        tiles_dir=tiles,
        features_dir=features,
        status_path=status["embed"],
        settings=SETTINGS,
    )
    splits = root / "splits.csv"
    run_split(
        manifest,
        status_paths=[status["embed"]],
        splits_path=splits,
        status_path=status["all"],
        settings=SETTINGS,
    )
    made = Workflow(root, manifest)
    run_train(
        features_dir=features,
        splits_path=splits,
        manifest=manifest,
        recipe="weno",
        seed=0,
        fold=0,
        out_dir=made.model_dir,
        settings=SETTINGS,
    )
    run_predict(
        manifest,
        features_dir=features,
        splits_path=splits,
        model_dir=made.model_dir,
        fold=0,
        out_dir=root / "predictions",
        settings=SETTINGS,
    )
    return made


def _answer(folder: Path) -> dict:
    return read_json(folder / "prediction.json", remake="wsi-kd infer")


def _alone(slide, slide_id: str = "slide", *, slide_mpp: float | None = None) -> SlideRow:
    return SlideRow(slide_id, slide.path, "", slide_id, "", slide_mpp, None, "")


def test_infer_gives_the_workflows_numbers(workflow, tmp_path):
    table = read_predictions(workflow.root / "predictions" / "predictions.csv")
    expected = next(row for row in table.rows if row.part == "test" and row.label == "tumor")
    (status,) = run_infer(
        [workflow.row(expected.slide_id)], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu"
    )
    answer = _answer(tmp_path)
    assert answer["status"] == status.status == SlideStatus.OK
    assert answer["probabilities"]["teacher"]["tumor"] == pytest.approx(
        expected.teacher_probability, abs=TOLERANCE
    )
    assert answer["probabilities"]["student"]["tumor"] == pytest.approx(
        expected.student_probability, abs=TOLERANCE
    )
    assert answer["calls"] == {"teacher": expected.teacher_call, "student": expected.student_call}
    assert answer["thresholds"]["teacher"]["value"] == expected.threshold_teacher
    found = read_tiles_csv(tmp_path / "tiles.csv")
    tiles = read_tiles_csv(workflow.root / "predictions" / "tiles" / f"{expected.slide_id}.csv")
    assert np.array_equal(found.coords, tiles.coords)
    for name in ("attention", "evidence", "student_probability"):
        assert np.abs(getattr(found, name) - getattr(tiles, name)).max() < TOLERANCE, name
    assert status.tiles == answer["tiles"] == len(tiles.coords) > 10
    assert status.dropped_background == status.tiles_laid - status.tiles > 0  # the checkpoint's limit holds


def test_slide_score_follows_from_the_tiles_csv(workflow, tmp_path):
    row = workflow.manifest.rows[0]
    run_infer([workflow.row(row.slide_id)], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu")
    tiles = read_tiles_csv(tmp_path / "tiles.csv")
    logits = np.sort(np.log(tiles.student_score) - np.log1p(-tiles.student_score))
    top = 1 / (1 + np.exp(-logits[-5:].mean()))
    probabilities = _answer(tmp_path)["probabilities"]
    assert probabilities["student"]["tumor"] == pytest.approx(top, abs=TOLERANCE)
    assert probabilities["student_topk"] == probabilities["student"]
    assert probabilities["student_max"]["tumor"] == pytest.approx(tiles.student_score.max(), abs=TOLERANCE)
    assert tiles.attention.sum() == pytest.approx(1.0, abs=1e-9)


def test_outputs_carry_provenance_and_no_path(workflow, tmp_path):
    row = workflow.row(workflow.manifest.rows[0].slide_id)
    run_infer([row], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu")
    answer = _answer(tmp_path)
    header = load_model(workflow.model_dir).header
    stored = read_features(workflow.root / "features" / f"{row.slide_id}.h5").header
    assert [model["weights_sha256"] for model in answer["models"]] == [header["weights_sha256"]]
    assert answer["slide"]["fingerprint"] == stored["fingerprint"]
    assert answer["slide"]["slide_mpp"] == 0.5
    assert answer["slide"]["mpp_source"] == "tiff"
    assert answer["settings"]["tile"]["tile_px"] == 64
    assert answer["files"] == {
        name: file_hash(tmp_path / name) for name in ("tiles.csv", "tiles.geojson", "heatmap.png")
    }
    for path in tmp_path.glob("*.*json"):
        assert str(row.path.parent) not in path.read_text(), path
        assert str(workflow.root) not in path.read_text(), path


def test_heatmap_is_an_image_with_colors(workflow, tmp_path):
    row = workflow.row(workflow.manifest.rows[0].slide_id)
    run_infer([row], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu")
    with Image.open(tmp_path / "heatmap.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 200
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 60).mean() > 0.02  # viridis is no gray


def test_odd_slides_end_with_a_status_and_the_others_with_a_prediction(workflow, synthetic_slide, tmp_path):
    kinds = ["empty", "missing_mpp", "implausible_mpp", "truncated", "dark_field", "tumor"]
    rows = [_alone(synthetic_slide(kind), kind) for kind in kinds]
    missing = SlideRow("gone", tmp_path / "gone.svs", "", "gone", "", None, None, "")
    told = []
    statuses = run_infer(
        [*rows, missing],
        model_dir=workflow.model_dir,
        out_dir=tmp_path / "out",
        device="cpu",
        on_slide=told.append,
    )
    by_kind = {status.slide_id: status for status in statuses}
    assert told == statuses
    assert by_kind["empty"].status == by_kind["dark_field"].status == SlideStatus.EMPTY
    assert by_kind["missing_mpp"].status == by_kind["implausible_mpp"].status == SlideStatus.MISSING_MPP
    assert "--slide-mpp" in by_kind["missing_mpp"].reason
    assert by_kind["gone"].status == SlideStatus.UNREADABLE
    assert by_kind["truncated"].status != SlideStatus.OK
    assert by_kind["tumor"].status == SlideStatus.OK
    for slide_id, status in by_kind.items():
        folder = tmp_path / "out" / slide_id
        answer = _answer(folder)
        assert (answer["status"], answer["reason"]) == (str(status.status), status.reason)
        scored = status.status == SlideStatus.OK
        assert bool(answer["calls"]) == scored
        assert {path.name for path in folder.iterdir()} == (
            {"prediction.json", "tiles.csv", "tiles.csv.meta.json", "tiles.geojson", "heatmap.png"}
            if scored
            else {"prediction.json"}
        )
        assert str(tmp_path) not in (folder / "prediction.json").read_text()


def test_override_of_the_resolution_makes_the_slide_usable(workflow, synthetic_slide, tmp_path):
    row = _alone(synthetic_slide("missing_mpp"), slide_mpp=0.5)
    (status,) = run_infer([row], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu")
    assert (status.status, status.mpp_source, status.slide_mpp) == (SlideStatus.OK, "override", 0.5)


def test_geojson_counts_from_the_corner_of_the_bounds(workflow, synthetic_slide, tmp_path):
    slide = synthetic_slide("bounds")
    (status,) = run_infer([_alone(slide)], model_dir=workflow.model_dir, out_dir=tmp_path, device="cpu")
    assert status.status == SlideStatus.OK
    tiles = read_tiles_csv(tmp_path / "tiles.csv")
    features = json.loads((tmp_path / "tiles.geojson").read_text())["features"]
    assert len(features) == len(tiles.coords)
    for feature, (x, y) in zip(features, tiles.coords - np.array(slide.origin), strict=True):
        edge = tiles.tile_level0_px
        assert shape(feature["geometry"]).equals(box(x, y, x + edge, y + edge))
    assert (tiles.coords >= np.array(slide.origin)).all()


def test_nothing_old_stays_beside_a_failed_answer(workflow, synthetic_slide, tmp_path):
    slide = tmp_path / "s.tif"
    row = SlideRow("s", slide, "", "s", "", None, None, "")
    shutil.copy(synthetic_slide("tumor").path, slide)
    run_infer([row], model_dir=workflow.model_dir, out_dir=tmp_path / "out", device="cpu")
    assert (tmp_path / "out" / "tiles.csv").is_file()
    slide.write_bytes(b"II*\0 no slide")
    (status,) = run_infer([row], model_dir=workflow.model_dir, out_dir=tmp_path / "out", device="cpu")
    assert status.status == SlideStatus.UNREADABLE
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["prediction.json"]


def test_other_encoder_weights_are_refused_before_any_slide(workflow, synthetic_slide, tmp_path):
    loaded = load_model(workflow.model_dir)
    header = {**loaded.header, "weights_hash": "other"}
    save_model(tmp_path / "model", "model", loaded.model, header=header)
    with pytest.raises(BadInput, match=r"stain_texture: the encoder's weights_hash is .*trained on other"):
        run_infer(
            [_alone(synthetic_slide("tumor"))],
            model_dir=tmp_path / "model",
            out_dir=tmp_path / "out",
            device="cpu",
        )
    assert not (tmp_path / "out").exists()


def test_broken_drawings_are_listed_before_any_slide(workflow, synthetic_slide, tmp_path):
    """One bad annotation used to end the run after the slides before it, an absent one with a traceback."""
    (tmp_path / "bad.xml").write_text("<ASAP_Annotations>")
    drawings = {"first": None, "second": tmp_path / "bad.xml", "third": tmp_path / "gone.xml"}
    rows = [
        _alone(synthetic_slide("tumor"), name)._replace(annotation=file) for name, file in drawings.items()
    ]
    with pytest.raises(
        BadInput, match=r"^2 drawings cannot be used: .*bad\.xml: .*gone\.xml: cannot be read"
    ):
        run_infer(rows, model_dir=workflow.model_dir, out_dir=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_one_line(workflow, synthetic_slide, tmp_path):
    (tmp_path / "out").write_text("here already")
    with pytest.raises(BadInput, match="out"):
        run_infer(
            [_alone(synthetic_slide("tumor"))],
            model_dir=workflow.model_dir,
            out_dir=tmp_path / "out",
            device="cpu",
        )
    assert (tmp_path / "out").read_text() == "here already"
