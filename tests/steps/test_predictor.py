"""The class Predictor says and writes what the command does, and its name costs no import of torch."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from untrained_models import write_model

import wsi_kd
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.core.records import SlideStatus

FILES = ("tiles.csv", "tiles.csv.meta.json", "tiles.geojson", "heatmap.png")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [write_model(root / f"fold{fold}", fold=fold) for fold in range(2)]


def answer_of(folder):
    answer = read_json(folder / "prediction.json", remake="wsi-kd infer")
    return {key: value for key, value in answer.items() if key != "seconds"}


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_writes_what_the_command_writes(models, synthetic_slide, tmp_path, count):
    slide = synthetic_slide("tumor").path
    named = [argument for folder in models[:count] for argument in ("--model", str(folder))]
    assert run(["infer", str(slide), *named, "--out", str(tmp_path / "command"), "--device", "cpu"]) == 0
    predictor = wsi_kd.Predictor(models[0] if count == 1 else models, device="cpu")
    result = predictor.predict(str(slide))
    result.write(tmp_path / "python")
    expected = answer_of(tmp_path / "command")
    assert answer_of(tmp_path / "python") == expected
    assert result.probabilities == expected["probabilities"]
    assert result.calls == expected["calls"]
    assert (result.slide_id, result.status.status) == (slide.stem, SlideStatus.OK)
    assert predictor.classes == ("normal", "tumor")
    assert len(result.tiles.coords) == expected["tiles"]
    assert np.isfinite(result.tiles.student_score).all()
    for name in FILES:
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name


def test_a_slide_that_fails_has_a_status_and_raises_nothing(models, synthetic_slide, tmp_path):
    result = wsi_kd.Predictor(str(models[0]), device="cpu").predict(
        synthetic_slide("empty").path, slide_id="mine"
    )
    assert (result.slide_id, result.status.status, result.tiles) == ("mine", SlideStatus.EMPTY, None)
    assert result.probabilities == result.calls == {}
    assert result.status.reason
    result.write(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["prediction.json"]


def test_its_resolution_goes_before_the_slides(models, synthetic_slide):
    result = wsi_kd.Predictor(models[0], device="cpu").predict(
        synthetic_slide("missing_mpp").path, slide_mpp=0.5
    )
    assert (result.status.status, result.status.mpp_source) == (SlideStatus.OK, "override")


def test_what_is_not_one_slide_is_refused(models, tmp_path):
    predictor = wsi_kd.Predictor(models[0], device="cpu")
    with pytest.raises(BadInput, match="no such slide file"):
        predictor.predict(tmp_path / "gone.svs")
    (tmp_path / "a.svs").touch()
    (tmp_path / "b.svs").touch()
    with pytest.raises(BadInput, match="holds 2 slides"):
        predictor.predict(tmp_path)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("../up", "holds a path separator"), ("", "is empty"), ("Predictions.csv", "is the name of a table")],
)
def test_a_given_name_is_checked(models, synthetic_slide, name, fault):
    predictor = wsi_kd.Predictor(models[0], device="cpu")
    with pytest.raises(BadInput, match=fault):
        predictor.predict(synthetic_slide("empty").path, slide_id=name)


def test_a_given_name_replaces_the_files(models, synthetic_slide, tmp_path):
    predictor = wsi_kd.Predictor(models[0], device="cpu")
    odd = shutil.copy(synthetic_slide("empty").path, tmp_path / "-odd.tif")
    with pytest.raises(BadInput, match="starts with '-'"):
        predictor.predict(odd)
    assert predictor.predict(odd, slide_id="even").slide_id == "even"


def test_no_model_is_told():
    with pytest.raises(BadInput, match="no model was given"):
        wsi_kd.Predictor([])


@pytest.mark.parametrize("default", [torch.float64, torch.float16])
def test_the_default_type_of_the_program_around_it_changes_nothing(models, synthetic_slide, default):
    slide = synthetic_slide("tumor").path
    expected = wsi_kd.Predictor(models[0], device="cpu").predict(slide).record
    torch.set_default_dtype(default)
    try:
        found = wsi_kd.Predictor(models[0], device="cpu").predict(slide).record
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(torch.float32)
    assert found["probabilities"] == expected["probabilities"]
    assert found["out_of_distribution"] == expected["out_of_distribution"]


def test_the_package_loads_nothing_heavy_until_it_is_asked_for():
    program = (
        "import sys, wsi_kd; before = 'torch' in sys.modules; found = wsi_kd.Predictor.__name__; "
        "print(before, 'torch' in sys.modules, found)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", "Predictor"]
    with pytest.raises(AttributeError, match="no attribute 'Predictr'"):
        _ = wsi_kd.Predictr
