import json
import uuid

import numpy as np
from made_prediction import made_prediction
from shapely.geometry import box, shape

from wsi_kd.inference.export import write_tiles_geojson
from wsi_kd.inference.tables import tile_table

CLASSES = ["normal", "tumor"]


def _tiles(student: float | None = 0.6):
    prediction = made_prediction(student)
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
        "Attention logit (raw)": 1.0,
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
    prediction = made_prediction()
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
        "Attention logit (raw)": 1.0,
        "Attention percentile": 100.0,
        "Teacher evidence probability: low": 0.1,
        "Teacher evidence probability: high": 0.2,
        "Student probability: low": 0.2,
        "Student probability: high": 0.7,
    }


def test_a_tile_without_a_number_is_neither_positive_nor_negative(tmp_path):
    tiles = _tiles()._replace(
        attention=np.array([np.nan, 0.25]), student_probability=np.array([[np.nan], [0.3]])
    )
    first, second = (feature["properties"] for feature in _geojson(tmp_path / "t.geojson", tiles)["features"])
    assert first == {
        "objectType": "tile",
        "measurements": {"Attention logit (raw)": 1.0, "Teacher evidence probability": 0.2},
    }
    assert second["classification"]["name"] == "normal"
    assert second["measurements"]["Attention percentile"] == 50.0


def test_ids_are_valid_distinct_and_the_same_in_every_run(tmp_path):
    once, again = (_geojson(tmp_path / name, _tiles()) for name in ("a.geojson", "b.geojson"))
    ids = [feature["id"] for feature in once["features"]]
    assert ids == [feature["id"] for feature in again["features"]]
    assert len(set(ids)) == 2
    assert all(uuid.UUID(text).version == 5 for text in ids)
