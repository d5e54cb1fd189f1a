"""Several models on one slide: features once, the mean and its spread; what is no ensemble is refused."""

import json
import re

import jsonschema
import numpy as np
import pytest
from untrained_models import SECTIONS, write_model

from wsi_kd.bags.manifest import bare_row
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.inference.likeness import Limit
from wsi_kd.inference.prediction_schema import prediction_schema
from wsi_kd.inference.tables import read_tiles_csv
from wsi_kd.steps import infer_slide
from wsi_kd.steps.infer_model import load_inference

FOLDS = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three folds below one folder; the slide is beyond the limit of the first and the last."""
    root = tmp_path_factory.mktemp("run") / "models/weno/seed0"
    for fold, limit in enumerate((1e-6, 1e9, 1e-5)):
        write_model(
            root / f"fold{fold}",
            fold=fold,
            thresholds={"teacher": 0.3 + 0.1 * fold, "student": 0.5},
            out_of_distribution=Limit(limit, "lognormal", 0.05, 6, 6, "val")._asdict(),
        )
    return root


def answer_of(folder):
    answer = json.loads((folder / "prediction.json").read_text())
    jsonschema.validate(answer, prediction_schema())
    return answer


def test_the_answer_is_the_mean_of_the_models_and_says_their_spread(
    models, synthetic_slide, tmp_path, monkeypatch
):
    slide = synthetic_slide("tumor").path
    row = bare_row(slide, None)
    folders = [models / f"fold{fold}" for fold in range(FOLDS)]
    alone = [infer_slide.infer_slide(row, load_inference([folder], device="cpu")) for folder in folders]
    single = [result.record for result in alone]
    embedded = []
    embed_slide = infer_slide.embed_slide
    monkeypatch.setattr(
        infer_slide, "embed_slide", lambda *a, **k: (embedded.append(1), embed_slide(*a, **k))[1]
    )
    command = ["infer", str(slide), "--device", "cpu", "--model", str(models), "--ensemble"]
    assert run([*command, "--out", str(tmp_path)]) == 0
    assert len(embedded) == 1  # features are made once
    together = answer_of(tmp_path)
    for score in ("teacher", "student", "student_max", "student_topk"):
        values = [answer["probabilities"][score]["tumor"] for answer in single]
        assert together["probabilities"][score]["tumor"] == pytest.approx(np.mean(values), abs=1e-12)
        spread = together["uncertainty"]["spread"][score]
        assert spread["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert (spread["low"], spread["high"]) == (min(values), max(values))
    assert [model["fold"] for model in together["models"]] == [0, 1, 2]
    assert together["thresholds"]["teacher"]["value"] == pytest.approx(0.4)
    assert single[0]["uncertainty"] == {**together["uncertainty"], "models": 1, "spread": {}}
    tiles = read_tiles_csv(tmp_path / "tiles.csv")
    assert np.array_equal(tiles.coords, alone[0].tiles.coords)
    mean = np.mean([result.tiles.student_score for result in alone], axis=0)
    assert tiles.student_score == pytest.approx(mean, abs=1e-12)
    assert tiles.attention.sum() == pytest.approx(1.0, abs=1e-9)


def test_the_flag_is_that_of_half_of_the_models(models, synthetic_slide):
    """Two of three models, and one of two, find the slide unlike their training; the second does not."""
    row = bare_row(synthetic_slide("tumor").path, None)
    folders = [models / f"fold{fold}" for fold in range(FOLDS)]
    for chosen, flag in ((folders, True), (folders[:2], True), (folders[1:2], False)):
        answer = infer_slide.infer_slide(row, load_inference(chosen, device="cpu")).record
        assert answer["out_of_distribution"]["flag"] is flag
        assert ("unlike the training slides" in answer["reason"]) is flag


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sections": {**SECTIONS, "tile": {"tile_px": 128}}}, "tile.tile_px 64, .*other has 128"),
        ({"classes": ("normal", "low", "high")}, r"classes \['normal', 'tumor'\], .*other has"),
        ({"weights_hash": "elsewhere"}, "weights_hash '.*, .*other has 'elsewhere'"),
        ({"with_student": False}, "student True, .*other has False"),
        ({"student_pooling": "max"}, "student_pooling 'topk', .*other has 'max'"),
        ({"top_k": 9}, "top_k 5, .*other has 9"),
        ({"stain": {"method": "macenko"}}, "stain {}, .*other has {'method': 'macenko'}"),
    ],
)
def test_models_that_do_not_belong_together_are_refused_in_one_line(models, tmp_path, changes, told):
    other = write_model(tmp_path / "other", fold=9, **changes)
    with pytest.raises(BadInput, match=told) as caught:
        load_inference([models / "fold0", other], device="cpu")
    assert "these models are no ensemble" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_model_twice_is_no_ensemble(models):
    with pytest.raises(BadInput, match=re.escape("one model twice in an ensemble")):
        load_inference([models / "fold0", models / "fold0"], device="cpu")


def test_where_files_lie_does_not_part_an_ensemble(models, tmp_path):
    moved = {**SECTIONS, "embed": {"weights_dir": str(tmp_path), "device": "cpu"}}
    other = write_model(tmp_path / "other", fold=7, sections=moved)
    assert len(load_inference([models / "fold0", other], device="cpu").models) == 2
