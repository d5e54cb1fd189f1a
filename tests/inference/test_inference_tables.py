import csv

import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.attention import attention_percentile, attention_times_tiles
from wsi_kd.inference.tables import (
    PredictionRow,
    TileTable,
    read_predictions,
    read_tiles_csv,
    write_predictions,
    write_tiles_csv,
)

ROW = PredictionRow(
    "s1", "p1", "", "tumor", "test", 1 / 3, 2 / 3, "normal", "tumor", 0.4, 0.5, (2 / 3, 1 / 3)
)


def _tiles(count=7, *, student=True, labels=True):
    generator = np.random.default_rng(0)
    attention = generator.dirichlet(np.ones(count))
    return TileTable(
        coords=generator.integers(0, 100_000, (count, 2)),
        tile_level0_px=256.513026,
        attention=attention,
        evidence=generator.random(count) ** 9,
        student_probability=generator.random(count) if student else None,
        tile_labels=np.arange(count).astype(np.int8) % 3 - 1 if labels else np.full(count, -1, dtype=np.int8),
    )


@pytest.mark.parametrize("student", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_tile_scores_come_back_bit_for_bit(tmp_path, student, labels):
    tiles = _tiles(student=student, labels=labels)
    write_tiles_csv(tmp_path / "t.csv", tiles, header=stamp("tile_scores", {}))
    again = read_tiles_csv(tmp_path / "t.csv")
    for name in ("coords", "attention", "evidence", "tile_labels"):
        assert np.array_equal(getattr(again, name), getattr(tiles, name)), name
    assert again.tile_level0_px == tiles.tile_level0_px
    if student:
        assert np.array_equal(again.student_probability, tiles.student_probability)
    else:
        assert again.student_probability is None


def test_tile_columns_are_the_documented_ones(tmp_path):
    write_tiles_csv(tmp_path / "t.csv", _tiles(), header=stamp("tile_scores", {}))
    with (tmp_path / "t.csv").open(newline="") as handle:
        assert next(csv.reader(handle)) == [
            "x_level0_px",
            "y_level0_px",
            "width_level0_px",
            "height_level0_px",
            "attention",
            "attention_percentile",
            "evidence",
            "student_probability",
            "tile_label",
        ]


def test_predictions_come_back_with_their_header(tmp_path):
    without = ROW._replace(slide_id="s2", student_probability=None, student_call="", threshold_student=None)
    header = {**stamp("predictions", {}), "recipe": "weno", "seed": 1}
    write_predictions(tmp_path / "p.csv", [ROW, without], classes=["normal", "tumor"], header=header)
    table = read_predictions(tmp_path / "p.csv")
    assert table.rows == (ROW, without)
    assert (table.header["recipe"], table.header["classes"]) == ("weno", ["normal", "tumor"])


def test_an_edited_table_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "p.csv"
    write_predictions(path, [ROW], classes=["normal", "tumor"], header=stamp("predictions", {}))
    path.write_text(path.read_text().replace("p1", "p2"))
    with pytest.raises(BadInput, match=r"p\.csv: changed or damaged.*wsi-kd predict"):
        read_predictions(path)


def test_a_table_of_another_kind_is_refused(tmp_path):
    write_tiles_csv(tmp_path / "t.csv", _tiles(), header=stamp("something", {}))
    with pytest.raises(BadInput, match="holds 'something', expected 'tile_scores'"):
        read_tiles_csv(tmp_path / "t.csv")


def test_percentile_ranks_within_the_slide():
    assert attention_percentile(np.array([0.1, 0.4, 0.1, 0.4])).tolist() == pytest.approx(
        [50 / 3, 250 / 3, 50 / 3, 250 / 3]
    )
    assert attention_percentile(np.array([1.0])).tolist() == [50.0]


def test_even_attention_times_tiles_is_one():
    assert attention_times_tiles(np.full(8, 1 / 8)).tolist() == [1.0] * 8
