import json
import uuid
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from shapely.geometry import box, shape

from wsi_kd.core.files import read_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.inference.export import (
    PATH_KEYS,
    SlideOutcome,
    without_paths,
    write_prediction_json,
    write_tiles_geojson,
)
from wsi_kd.inference.predict import SlidePrediction, StudentPrediction
from wsi_kd.inference.tables import tile_table
from wsi_kd.settings.all import Settings

CLASSES = ["normal", "tumor"]
MODEL_HEADER = {
    "classes": CLASSES,
    "thresholds": {"teacher": 0.4, "student": 0.7, "student_max": 0.8, "student_topk": 0.7},
    "threshold_rule": "youden",
    "threshold_split": "val",
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


def _prediction(student: float | None = 0.6):
    return SlidePrediction(
        teacher_probability=np.array([0.55, 0.45]),
        student=None
        if student is None
        else StudentPrediction(
            by_max=np.array([0.1, 0.9]),
            by_topk=np.array([1 - student, student]),
            deployed=np.array([1 - student, student]),
            tiles=np.array([[0.8], [0.3]]),
        ),
        attention=np.array([0.75, 0.25]),
        attention_logits=np.array([1.0, 0.0]),
        branch_attention=None,
        evidence=np.array([[0.2], [0.9]]),
        feature_distance=1.25,
    )


def _tiles(student: float | None = 0.6):
    prediction = _prediction(student)
    return tile_table(
        prediction,
        coords=np.array([[1000, 2000], [1300, 2500]]),
        tile_level0_px=256.5,
        tile_labels=np.array([-1, -1], dtype=np.int8),
    )


def _geojson(path, tiles):
    write_tiles_geojson(path, tiles, slide_id="s1", origin=(1000, 2000), classes=CLASSES)
    return json.loads(path.read_text())


def test_tiles_lie_in_qupaths_frame_at_their_exact_size(tmp_path):
    collection = _geojson(tmp_path / "t.geojson", _tiles())
    assert collection["type"] == "FeatureCollection"
    first, second = collection["features"]
    assert shape(first["geometry"]).equals(box(0, 0, 256.5, 256.5))
    assert shape(second["geometry"]).equals(box(300, 500, 556.5, 756.5))
    assert first["geometry"]["coordinates"][0][0] == first["geometry"]["coordinates"][0][-1]


def test_tiles_carry_what_qupath_reads(tmp_path):
    first, second = _geojson(tmp_path / "t.geojson", _tiles())["features"]
    assert first["type"] == "Feature"
    assert first["properties"]["objectType"] == "tile"
    assert first["properties"]["classification"] == {"name": "tumor", "color": [200, 40, 40]}
    assert second["properties"]["classification"]["name"] == "normal"
    assert first["properties"]["measurements"] == {
        "Attention (softmax)": 0.75,
        "Attention percentile": 100.0,
        "Teacher evidence probability": 0.2,
        "Student probability": 0.8,
    }


def test_without_student_the_evidence_classifies(tmp_path):
    first, second = _geojson(tmp_path / "t.geojson", _tiles(None))["features"]
    assert first["properties"]["classification"]["name"] == "normal"
    assert second["properties"]["classification"]["name"] == "tumor"
    assert "Student probability" not in first["properties"]["measurements"]


def test_three_classes_have_a_number_each_and_the_largest_classifies(tmp_path):
    prediction = _prediction()
    tiles = tile_table(
        prediction._replace(
            teacher_probability=np.array([0.2, 0.3, 0.5]),
            evidence=np.array([[0.1, 0.2], [0.3, 0.3]]),
            student=prediction.student._replace(tiles=np.array([[0.2, 0.7], [0.45, 0.4]])),
        ),
        coords=np.array([[0, 0], [300, 0]]),
        tile_level0_px=256.0,
        tile_labels=np.array([-1, -1], dtype=np.int8),
    )
    write_tiles_geojson(
        tmp_path / "t.geojson", tiles, slide_id="s1", origin=(0, 0), classes=["normal", "low", "high"]
    )
    first, second = (
        feature["properties"] for feature in json.loads((tmp_path / "t.geojson").read_text())["features"]
    )
    assert first["classification"]["name"] == "not normal"  # 0.7 >= 0.5
    assert second["classification"]["name"] == "normal"  # 0.45 and 0.4: neither
    assert first["measurements"] == {
        "Attention (softmax)": 0.75,
        "Attention percentile": 100.0,
        "Teacher evidence probability: low": 0.1,
        "Teacher evidence probability: high": 0.2,
        "Student probability: low": 0.2,
        "Student probability: high": 0.7,
    }


def test_ids_are_valid_distinct_and_the_same_in_every_run(tmp_path):
    once, again = (_geojson(tmp_path / name, _tiles()) for name in ("a.geojson", "b.geojson"))
    ids = [feature["id"] for feature in once["features"]]
    assert ids == [feature["id"] for feature in again["features"]]
    assert len(set(ids)) == 2
    assert all(uuid.UUID(text).version == 5 for text in ids)


def _written(path, outcome):
    write_prediction_json(
        path, outcome, slide_header=SLIDE_HEADER, model_header=MODEL_HEADER, files={"tiles.csv": "00"}
    )
    return read_json(path, remake="wsi-kd infer")


def test_prediction_says_probabilities_calls_thresholds_and_their_origin(tmp_path):
    answer = _written(tmp_path / "p.json", SlideOutcome("s1", SlideStatus.OK, "", 2, _prediction()))
    assert answer["probabilities"]["teacher"] == {"normal": 0.55, "tumor": 0.45}
    assert answer["probabilities"]["student"] == {"normal": pytest.approx(0.4), "tumor": 0.6}
    assert answer["probabilities"]["student_max"] == {"normal": 0.1, "tumor": 0.9}
    assert answer["calls"] == {"teacher": "tumor", "student": "normal"}  # 0.45 >= 0.4, 0.6 < 0.7
    assert set(answer["thresholds"]) == {"teacher", "student"}
    assert answer["thresholds"]["student"] == {"value": 0.7, "rule": "youden", "chosen_on": "val"}
    assert answer["model"]["weights_sha256"] == "ab" * 32
    assert answer["slide"]["slide_mpp"] == 0.499
    assert answer["research_only"].startswith("Research only")
    assert answer["versions"]["wsi_kd"]


def test_prediction_holds_no_path_and_no_other_metadata(tmp_path):
    _written(tmp_path / "p.json", SlideOutcome("s1", SlideStatus.OK, "", 2, _prediction()))
    text = (tmp_path / "p.json").read_text()
    for secret in ("dr_house", "PATIENT", "barcode", str(tmp_path)):
        assert secret not in text
    assert "weights.pt" in text


def test_a_failed_slide_has_status_and_reason_but_no_call(tmp_path):
    answer = _written(tmp_path / "p.json", SlideOutcome("s1", SlideStatus.EMPTY, "no tissue", 0, None))
    assert (answer["status"], answer["reason"]) == ("empty", "no tissue")
    assert answer["probabilities"] == {}
    assert answer["calls"] == {}


def test_model_without_student_has_no_student_answer(tmp_path):
    answer = _written(tmp_path / "p.json", SlideOutcome("s1", SlideStatus.OK, "", 2, _prediction(None)))
    assert set(answer["probabilities"]) == {"teacher"}


def test_paths_are_cut_to_their_names_and_nothing_else_is():
    sections = {
        "mask": {"edited_dir": None, "mask_mpp": 8.0},
        "embed": {"weights": "/a/b/c.pt", "encoder": "x"},
    }
    assert without_paths(sections) == {
        "mask": {"edited_dir": None, "mask_mpp": 8.0},
        "embed": {"weights": "c.pt", "encoder": "x"},
    }


def test_every_path_among_the_settings_is_known_to_be_one():
    sections = {name: type(section).model_fields for name, section in Settings()}
    paths = {
        key
        for fields in sections.values()
        for key, field in fields.items()
        if Path in {field.annotation, *get_args(field.annotation)}
    }
    assert paths == PATH_KEYS
