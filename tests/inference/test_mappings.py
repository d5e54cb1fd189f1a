"""What each mapping of tile scores is, in numbers worked by hand."""

import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.mappings import MAPPINGS, default_mapping, mapping_keys, mapping_slug, tile_mapping
from wsi_kd.inference.tables import TileTable

THREE = ("normal", "low", "high")


def table(**changes):
    return TileTable(
        coords=np.array([[0, 0], [256, 0], [512, 0], [768, 0]]),
        tile_level0_px=256.0,
        attention=np.array([0.7, 0.1, 0.2, 0.0]),
        branch_attention=None,
        evidence=np.array([[0.2], [0.9], [0.5], [0.1]]),
        student_probability=np.array([[0.3], [0.8], [0.6], [0.0]]),
        tile_labels=np.full(4, -1, np.int8),
        attention_logits=np.array([2.0, -1.0, 0.5, -3.0]),
    )._replace(**changes)


def three_classes():
    return table(
        evidence=np.array([[0.1, 0.2], [0.3, 0.6], [0.0, 0.1], [0.5, 0.5]]),
        student_probability=np.array([[0.9, 0.2], [0.1, 0.3], [0.0, 0.0], [0.4, 0.4]]),
        branch_attention=np.array([[0.4, 0.1, 0.7], [0.3, 0.2, 0.1], [0.2, 0.3, 0.2], [0.1, 0.4, 0.0]]),
    )


@pytest.mark.parametrize(
    ("key", "scores", "ends"),
    [
        ("student_probability", [0.3, 0.8, 0.6, 0.0], (0.0, 1.0)),
        ("teacher_evidence", [0.2, 0.9, 0.5, 0.1], (0.0, 1.0)),
        ("attention_softmax", [2.8, 0.4, 0.8, 0.0], (0.0, 2.8)),
        ("attention_percentile", [100.0, 100 / 3, 200 / 3, 0.0], (0.0, 100.0)),
        ("attention_raw", [2.0, -1.0, 0.5, -3.0], (-3.0, 2.0)),
    ],
)
def test_each_mapping_has_its_scores_and_ends(key, scores, ends):
    mapped = tile_mapping(table(), key)
    np.testing.assert_allclose(mapped.scores, scores, atol=1e-12)
    assert (mapped.vmin, mapped.vmax) == pytest.approx(ends)
    assert (mapped.key, mapped.name, mapped.unit) == (key, MAPPINGS[key].name, MAPPINGS[key].unit)


def test_every_mapping_has_a_case_above_and_its_own_name():
    assert set(mapping_keys(table())) == set(MAPPINGS)
    assert len({what.name for what in MAPPINGS.values()}) == len(MAPPINGS)


def test_even_attention_does_not_look_hot():
    mapped = tile_mapping(table(attention=np.full(4, 0.25)), "attention_softmax")
    assert mapped.scores.tolist() == [1.0] * 4
    assert mapped.vmax == 2.0


def test_of_three_classes_each_has_its_own_and_together_they_are_any_of_them():
    tiles = three_classes()
    scores = {
        key: tile_mapping(tiles, key, classes=THREE).scores for key in mapping_keys(tiles, classes=THREE)
    }
    assert scores["student_probability"].tolist() == [0.9, 0.3, 0.0, 0.4]  # the largest: one against all
    np.testing.assert_allclose(scores["teacher_evidence"], [0.3, 0.9, 0.1, 1.0])  # the sum: of one softmax
    assert scores["student_probability:low"].tolist() == [0.9, 0.1, 0.0, 0.4]
    assert scores["teacher_evidence:high"].tolist() == [0.2, 0.6, 0.1, 0.5]
    np.testing.assert_allclose(scores["attention_softmax:high"], [2.8, 0.4, 0.8, 0.0])
    assert scores["attention_percentile:normal"].tolist() == pytest.approx([100, 200 / 3, 100 / 3, 0])
    assert "attention_raw:high" not in scores
    named = tile_mapping(tiles, "student_probability:low", classes=THREE)
    assert named.name == "student probability: low"


@pytest.mark.parametrize(
    ("tiles", "key", "said"),
    [
        (table(), "student", r"unknown heatmap mapping 'student'; known: .*student_probability"),
        (table(student_probability=None), "student_probability", "they hold: teacher_evidence, attention_"),
        (table(attention_logits=None), "attention_raw", "do not hold it"),
        (table(), "student_probability:tumor", "do not hold it"),
    ],
)
def test_what_a_table_does_not_hold_is_one_line_with_what_it_holds(tiles, key, said):
    with pytest.raises(BadInput, match=said):
        tile_mapping(tiles, key, classes=("normal", "tumor"))


def test_without_a_student_the_evidence_is_drawn():
    assert default_mapping(table()) == mapping_keys(table())[0] == "student_probability"
    assert default_mapping(table(student_probability=None)) == "teacher_evidence"


def test_attention_that_is_no_number_stays_bare_and_the_rest_keeps_its_rank():
    tiles = table(attention=np.array([np.nan, 0.1, 0.2, 0.0]), attention_logits=np.array([np.inf, 1, 2, 3.0]))
    assert np.isnan(tile_mapping(tiles, "attention_softmax").scores).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(
        tile_mapping(tiles, "attention_percentile").scores, [np.nan, 50.0, 100.0, 0.0]
    )
    raw = tile_mapping(tiles, "attention_raw")
    np.testing.assert_array_equal(raw.scores, [np.nan, 1, 2, 3])
    assert (raw.vmin, raw.vmax) == (1.0, 3.0)


@pytest.mark.parametrize("key", MAPPINGS)
@pytest.mark.parametrize("attention", [[], [1.0], [np.nan]])
def test_one_tile_none_and_none_with_a_number_have_ends_that_can_be_drawn(key, attention):
    count = len(attention)
    tiles = table(
        coords=np.zeros((count, 2), np.int64),
        attention=np.array(attention),
        attention_logits=np.array(attention),
        evidence=np.full((count, 1), 0.5),
        student_probability=np.full((count, 1), 0.5),
    )
    mapped = tile_mapping(tiles, key)
    assert len(mapped.scores) == count
    assert np.isfinite([mapped.vmin, mapped.vmax]).all()
    assert mapped.vmin < mapped.vmax


def test_two_classes_never_share_a_file_name():
    names = ["grade 2", "grade/2", "grade_2", "grade:2", "g" * 80, "g" * 81, "片", "..", "-a", "a"]
    slugs = [mapping_slug(f"student_probability:{name}") for name in names]
    assert len(set(slugs)) == len(slugs)
    assert all(
        set(slug) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
        for slug in slugs
    )
    assert max(map(len, slugs)) < 100
