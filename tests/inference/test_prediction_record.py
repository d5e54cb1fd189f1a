"""prediction.json: its members by hand, and each kind of it against the published schema."""

from pathlib import Path

import jsonschema
import numpy as np
import pytest
from made_prediction import made_prediction

from wsi_kd.cli.app import run
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.inference.likeness import Limit, out_of_distribution_record
from wsi_kd.inference.prediction_record import Answer, Outcome, prediction_record, slide_thresholds
from wsi_kd.inference.prediction_schema import prediction_schema, prediction_schema_json

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "docs/schemas/prediction.schema.json"
LIMIT = Limit(1.5, "lognormal", 0.05, 6, 8, "val")
SECONDS = {"mask": 0.5, "tile": 0.25, "embed": 2.0, "score": 0.125, "files": 0.0}
MODEL_HEADER = {
    "classes": ["normal", "tumor"],
    "thresholds": {"teacher": 0.4, "student": 0.7, "student_max": 0.8, "student_topk": 0.7},
    "threshold_rule": "youden",
    "threshold_split": "val",
    "out_of_distribution": LIMIT._asdict(),
    "recipe": "weno",
    "teacher": "gated_abmil",
    "seed": 0,
    "fold": 2,
    "epoch": 17,
    "weights_sha256": "ab" * 32,
    "student_pooling": "topk",
    "top_k": 5,
    "sections": {"embed": {"encoder": "resnet18", "weights": "/home/dr_house/weights.pt"}},
}
SLIDE_HEADER = {
    "slide_file": "s1.svs",
    "slide_mpp": 0.499,
    "mpp_source": "vendor",
    "fingerprint": "cd" * 32,
    "bounds": [1000, 2000, 9000, 9000],
    "openslide.barcode": "PATIENT-0815",
}


def written(folder, prediction=None, *, status=SlideStatus.OK, headers=(MODEL_HEADER,), spread=None):
    """The file as it is read back, after a look at it by the schema."""
    row = StatusRow("s1", status, "" if prediction else "no tissue", "infer", 2, 3.5, 0.499, "vendor", 2.875)
    answer = prediction and Answer(
        prediction, spread or {}, out_of_distribution_record(prediction.feature_distance, LIMIT), ""
    )
    outcome = Outcome(row, answer, "00ff", SECONDS)
    record = prediction_record(outcome, slide_header=SLIDE_HEADER, model_headers=headers)
    publish_json(folder / "prediction.json", record)
    read = read_json(folder / "prediction.json", remake="wsi-kd infer")
    jsonschema.validate({**read, "content_sha256": "any"}, prediction_schema())
    return read


def test_it_says_probabilities_calls_thresholds_and_their_origin(tmp_path):
    answer = written(tmp_path, made_prediction())
    assert answer["probabilities"]["teacher"] == {"normal": 0.55, "tumor": 0.45}
    assert answer["probabilities"]["student"] == {"normal": pytest.approx(0.4), "tumor": 0.6}
    assert answer["probabilities"]["student_max"] == {"normal": 0.1, "tumor": 0.9}
    assert answer["calls"] == {"teacher": "tumor", "student": "normal"}  # 0.45 >= 0.4, 0.6 < 0.7
    assert set(answer["thresholds"]) == {"teacher", "student", "student_max", "student_topk"}
    assert answer["thresholds"]["student_max"]["value"] == 0.8
    assert answer["thresholds"]["student"] == {"value": 0.7, "rule": "youden", "chosen_on": "val"}
    assert [model["weights_sha256"] for model in answer["models"]] == ["ab" * 32]
    assert answer["slide"]["slide_mpp"] == 0.499
    assert answer["research_only"].startswith("Research only")
    assert answer["versions"]["wsi_kd"]
    assert (answer["seconds"], answer["inputs_hash"], answer["tiles"]) == (SECONDS, "00ff", 2)


def test_it_tells_how_like_the_training_the_slide_is(tmp_path):
    likeness = written(tmp_path, made_prediction())["out_of_distribution"]
    assert (likeness["feature_distance"], likeness["limit"], likeness["flag"]) == (1.25, 1.5, False)
    far = written(tmp_path, made_prediction()._replace(feature_distance=1.75))["out_of_distribution"]
    assert far["flag"]


def test_it_holds_no_path_and_no_other_metadata(tmp_path):
    written(tmp_path, made_prediction())
    text = (tmp_path / "prediction.json").read_text()
    for secret in ("dr_house", "PATIENT", "barcode", str(tmp_path)):
        assert secret not in text
    assert "weights.pt" in text


def test_a_failed_slide_has_status_and_reason_but_no_call(tmp_path):
    answer = written(tmp_path, status=SlideStatus.EMPTY)
    assert (answer["status"], answer["reason"]) == ("empty", "no tissue")
    assert answer["probabilities"] == answer["calls"] == answer["uncertainty"]["spread"] == {}
    assert answer["out_of_distribution"] is None


def test_a_model_without_student_has_no_student_answer(tmp_path):
    header = {**MODEL_HEADER, "thresholds": {"teacher": 0.4}}
    answer = written(tmp_path, made_prediction(None), headers=(header,))
    assert set(answer["probabilities"]) == set(answer["calls"]) == {"teacher"}
    assert answer["thresholds"]["student"]["value"] is None


def test_three_classes_have_a_probability_each(tmp_path):
    three = made_prediction()._replace(teacher_probability=np.array([0.5, 0.2, 0.3]), student=None)
    header = {**MODEL_HEADER, "classes": ["normal", "low", "high"]}
    answer = written(tmp_path, three, headers=(header,))
    assert answer["probabilities"] == {"teacher": {"normal": 0.5, "low": 0.2, "high": 0.3}}
    assert answer["calls"] == {"teacher": "high"}  # 0.5 of any positive class >= 0.4


def test_an_ensemble_names_its_models_and_their_spread(tmp_path):
    other = {**MODEL_HEADER, "fold": 3, "thresholds": {"teacher": 0.6, "student": 0.9}}
    spread = {"teacher": {"sd": 0.1, "low": 0.38, "high": 0.52}}
    answer = written(tmp_path, made_prediction(), headers=(MODEL_HEADER, other), spread=spread)
    assert [model["fold"] for model in answer["models"]] == [2, 3]
    assert answer["uncertainty"]["models"] == 2
    assert answer["uncertainty"]["spread"] == spread
    assert answer["thresholds"]["teacher"]["value"] == pytest.approx(0.5)
    assert answer["calls"]["teacher"] == "normal"  # 0.45 < (0.4 + 0.6) / 2


def test_thresholds_of_an_ensemble_need_every_models_own():
    lacking = {**MODEL_HEADER, "thresholds": {"teacher": 0.6}, "threshold_rule": "fixed"}
    found = slide_thresholds((MODEL_HEADER, lacking))
    assert found["student"]["value"] is None
    assert found["teacher"] == {
        "value": pytest.approx(0.5),
        "rule": "youden and fixed",
        "chosen_on": "val",
    }


@pytest.mark.parametrize(
    ("member", "value"), [("status", "fine"), ("tiles", "2"), ("path", "/home/dr_house"), ("kind", "model")]
)
def test_the_schema_refuses_what_is_no_prediction(tmp_path, member, value):
    broken = {**written(tmp_path, made_prediction()), "content_sha256": "any", member: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, prediction_schema())


def test_the_schema_of_the_docs_is_that_of_the_code_and_valid_itself(capsys):
    assert SCHEMA_FILE.read_text(encoding="utf-8") == prediction_schema_json()
    jsonschema.Draft202012Validator.check_schema(prediction_schema())
    assert run(["config", "prediction-schema"]) == 0
    assert capsys.readouterr().out == prediction_schema_json()
