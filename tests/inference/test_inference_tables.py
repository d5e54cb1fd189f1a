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
    slide_id="s1",
    case_id="p1",
    site="",
    label="tumor",
    part="test",
    teacher_probability=1 / 3,
    student_probability=2 / 3,
    student_max_probability=0.9,
    student_topk_probability=2 / 3,
    teacher_call="normal",
    student_call="tumor",
    threshold_teacher=0.4,
    threshold_student=0.5,
    threshold_student_max=0.6,
    threshold_student_topk=0.5,
    feature_distance=4 / 3,
    out_of_distribution=True,
    class_probabilities=(2 / 3, 1 / 3),
)
CLASSES = ["normal", "tumor"]
THREE = ["normal", "low", "high"]


def _tiles(count=7, *, student=True, labels=True, positives=1):
    generator = np.random.default_rng(0)
    attention = generator.dirichlet(np.ones(count))
    return TileTable(
        coords=generator.integers(0, 100_000, (count, 2)),
        tile_level0_px=256.513026,
        attention=attention,
        branch_attention=generator.random((count, 3)) if positives == 2 else None,
        evidence=generator.random((count, positives)) ** 9,
        student_probability=generator.random((count, positives)) if student else None,
        tile_labels=np.arange(count).astype(np.int8) % 3 - 1 if labels else np.full(count, -1, dtype=np.int8),
        attention_logits=np.log(attention) + 1 / 3,
    )


@pytest.mark.parametrize("student", [True, False])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("classes", [CLASSES, THREE])
def test_tile_scores_come_back_bit_for_bit(tmp_path, student, labels, classes):
    tiles = _tiles(student=student, labels=labels, positives=len(classes) - 1)
    write_tiles_csv(tmp_path / "t.csv", tiles, classes=classes, header=stamp("tile_scores", {}))
    again = read_tiles_csv(tmp_path / "t.csv")
    for name in ("coords", "attention", "attention_logits", "branch_attention", "evidence", "tile_labels"):
        assert np.array_equal(getattr(again, name), getattr(tiles, name)), name
    assert again.tile_level0_px == tiles.tile_level0_px
    if student:
        assert np.array_equal(again.student_probability, tiles.student_probability)
    else:
        assert again.student_probability is None


def test_tile_columns_are_the_documented_ones(tmp_path):
    write_tiles_csv(tmp_path / "t.csv", _tiles(), classes=CLASSES, header=stamp("tile_scores", {}))
    with (tmp_path / "t.csv").open(newline="") as handle:
        assert next(csv.reader(handle)) == [
            "x_level0_px",
            "y_level0_px",
            "width_level0_px",
            "height_level0_px",
            "attention",
            "attention_percentile",
            "attention_logit",
            "evidence",
            "student_probability",
            "tile_label",
        ]


def test_three_classes_have_a_column_each_and_one_score_of_any_positive(tmp_path):
    tiles = _tiles(positives=2)
    write_tiles_csv(tmp_path / "t.csv", tiles, classes=THREE, header=stamp("tile_scores", {}))
    with (tmp_path / "t.csv").open(newline="") as handle:
        names = next(csv.reader(handle))
    assert names[7:] == [
        *("branch_attention_normal", "branch_attention_low", "branch_attention_high"),
        *("evidence_low", "evidence_high", "student_probability_low", "student_probability_high"),
        "tile_label",
    ]
    few = tiles._replace(
        evidence=np.array([[0.25, 0.5], [0.0, 0.125]]), student_probability=np.array([[0.2, 0.9], [0.4, 0.3]])
    )
    assert few.evidence_score.tolist() == [0.75, 0.125]  # a softmax: classes exclude each other
    assert few.student_score.tolist() == [0.9, 0.4]  # each class against all others: the largest
    assert _tiles(student=False).student_score is None


def test_predictions_of_three_classes_come_back(tmp_path):
    row = ROW._replace(
        class_probabilities=(0.5, 0.25, 0.25),
        student_class_probabilities=(0.1, 0.2, 0.7),
        student_max_class_probabilities=(0.1, 1 / 3, 0.7),
        student_topk_class_probabilities=(0.1, 0.2, 0.7),
    )
    without = _without_student(row)
    write_predictions(tmp_path / "p.csv", [row, without], classes=THREE, header=stamp("predictions", {}))
    assert read_predictions(tmp_path / "p.csv").rows == (row, without)


def _without_student(row):
    return row._replace(
        slide_id="s2",
        out_of_distribution=False,
        student_probability=None,
        student_max_probability=None,
        student_topk_probability=None,
        student_call="",
        threshold_student=None,
        threshold_student_max=None,
        threshold_student_topk=None,
        student_class_probabilities=(),
        student_max_class_probabilities=(),
        student_topk_class_probabilities=(),
    )


def test_predictions_come_back_with_their_header(tmp_path):
    without = _without_student(ROW)
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
    write_tiles_csv(tmp_path / "t.csv", _tiles(), classes=CLASSES, header=stamp("something", {}))
    with pytest.raises(BadInput, match="holds 'something', expected 'tile_scores'"):
        read_tiles_csv(tmp_path / "t.csv")


def test_percentile_ranks_within_the_slide():
    assert attention_percentile(np.array([0.1, 0.4, 0.1, 0.4])).tolist() == pytest.approx(
        [50 / 3, 250 / 3, 50 / 3, 250 / 3]
    )
    assert attention_percentile(np.array([1.0])).tolist() == [50.0]


def test_even_attention_times_tiles_is_one():
    assert attention_times_tiles(np.full(8, 1 / 8)).tolist() == [1.0] * 8
