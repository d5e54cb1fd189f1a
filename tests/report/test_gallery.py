"""The gallery: which slides and tiles are shown, what their cards say, and what is said where none can be."""

import numpy as np
import pytest
from report_runs import RunMaker

from wsi_kd.inference.mappings import tile_mapping
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.gallery import gallery_section, slide_card
from wsi_kd.report.gallery_choice import choose_slides
from wsi_kd.report.gallery_tiles import rank_tiles, shown_tiles, tile_strips
from wsi_kd.report.page import Card, Gallery, Note, Picture

MODEL = ("weno", 0, 1)


def notes(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Note))


def confident(record, scores):
    """The WENO models with one test slide per (label, student probability); threshold 0.4."""
    model = next(model for model in record.models if model.recipe == "weno")
    rows = tuple(
        model.test[0]._replace(slide_id=f"s{index}", label=label, student_probability=score)
        for index, (label, score) in enumerate(scores)
    )
    return [model._replace(test=rows)]


def test_the_gallery_takes_the_surest_right_and_the_surest_wrong(clean_record):
    scores = [
        ("tumor", 0.9),
        ("tumor", 0.99),
        ("tumor", 0.1),
        ("normal", 0.5),
        ("normal", 0.02),
        ("tumor", 0.41),
    ]
    models = confident(clean_record, scores)
    chosen = choose_slides(models, count=4, negative="normal")
    assert [(one.row.slide_id, one.right) for one in chosen] == [
        ("s1", True),  # (0.99 - 0.4) / 0.6
        ("s4", True),  # (0.4 - 0.02) / 0.4
        ("s2", False),
        ("s3", False),
    ]


@pytest.mark.parametrize(
    ("count", "right", "wrong"), [(0, 0, 0), (1, 1, 0), (3, 2, 1), (6, 4, 2), (99, 4, 2)]
)
def test_a_short_kind_is_filled_up_with_the_other(clean_record, count, right, wrong):
    scores = [
        ("tumor", 0.9),
        ("tumor", 0.8),
        ("tumor", 0.7),
        ("tumor", 0.6),
        ("normal", 0.5),
        ("normal", 0.6),
    ]
    chosen = choose_slides(confident(clean_record, scores), count=count, negative="normal")
    assert [sum(one.right == kind for one in chosen) for kind in (True, False)] == [right, wrong]


def test_wrong_slides_fill_the_gallery_of_a_poor_model(clean_record):
    scores = [("normal", 0.9), ("normal", 0.8), ("normal", 0.7), ("tumor", 0.6)]
    chosen = choose_slides(confident(clean_record, scores), count=4, negative="normal")
    assert [one.right for one in chosen] == [True, False, False, False]


def test_the_gallery_shows_one_seed_of_the_recipe_with_a_student():
    models = RunMaker(recipes=("weno", "abmil"), seeds=(3, 1)).models()
    chosen = choose_slides(models, count=6, negative="normal")
    assert {(one.model.recipe, one.model.seed, one.score) for one in chosen} == {("weno", 1, "student")}
    alone = choose_slides([model for model in models if model.recipe == "abmil"], count=2, negative="normal")
    assert {one.score for one in alone} == {"teacher"}
    assert choose_slides([], count=2, negative="normal") == []


def test_a_slide_that_cannot_be_shown_says_why(clean_record):
    chosen = choose_slides(clean_record.models, count=2, negative="normal")[0]
    card = slide_card(chosen, None, note="No picture: the file is gone")
    assert card.pictures == ()
    assert dict(card.facts)["Student probability"] == f"{chosen.row.student_probability:.3f}"
    assert card.verdict == f"right: called {chosen.row.student_call}, labeled {chosen.row.label}"
    assert "No slide is shown" in notes(gallery_section([]))


def test_slides_without_a_label_are_neither_right_nor_wrong(clean_record):
    scores = [("", 0.99), ("", 0.41), ("tumor", 0.9)]
    chosen = choose_slides(confident(clean_record, scores), count=3, negative="normal")
    assert [one.row.slide_id for one in chosen] == ["s2"]
    alone = choose_slides(confident(clean_record, scores[:2]), count=1, negative="normal")
    assert [(one.row.slide_id, one.right) for one in alone] == [("s0", None)]
    card = slide_card(alone[0], None, note="No picture: the file is gone")
    assert card.verdict.endswith("no label")
    section = gallery_section([card])
    assert [block.heading for block in section.blocks if isinstance(block, Gallery)] == [
        "Surest, without a label"
    ]
    assert "called wrong" not in notes(section)


def test_a_score_that_is_no_number_is_never_sure(clean_record):
    scores = [("tumor", float("nan")), ("tumor", 0.9)]
    chosen = choose_slides(confident(clean_record, scores), count=4, negative="normal")
    assert [one.row.slide_id for one in chosen] == ["s1"]
    nan_teacher = chosen[0]._replace(row=chosen[0].row._replace(teacher_probability=float("nan")))
    assert dict(slide_card(nan_teacher, None).facts)["Teacher probability"] == "not a finite number"


def test_a_slide_unlike_the_training_slides_is_told(clean_record):
    chosen = choose_slides(clean_record.models, count=1, negative="normal")[0]
    assert "Unlike the training slides" not in dict(slide_card(chosen, None).facts)
    flagged = chosen._replace(row=chosen.row._replace(out_of_distribution=True))
    assert dict(slide_card(flagged, None).facts)["Unlike the training slides"] == "yes"


def card(slide_id, right):
    return Card(slide_id, "", right, (), ())


def test_right_and_wrong_stand_under_headings_of_their_own():
    section = gallery_section([card("a", True), card("b", False), card("c", True)])
    shown = [(block.heading, [one.heading for one in block.cards]) for block in section.blocks[1:]]
    assert shown == [("Surest and right", ["a", "c"]), ("Surest and wrong", ["b"])]
    assert "No test slide of this model was called wrong." in notes(gallery_section([card("a", True)]))


def test_slides_without_a_picture_are_counted():
    shown = card("seen", True)._replace(pictures=(Picture("data:,", "alt", "caption", 1, 1),))
    told = notes(gallery_section((shown, card("gone", True))))
    assert " 1 of these 2 slides have no picture; each says why." in told
    assert "no picture" not in notes(gallery_section((shown,)))


def table(scores, coords, labels=None):
    count = len(scores)
    return TileTable(
        coords=np.asarray(coords, dtype=np.int64),
        tile_level0_px=100.0,
        attention=np.full(count, 1 / count),
        branch_attention=None,
        evidence=np.zeros((count, 1)),
        student_probability=np.asarray(scores, dtype=np.float64)[:, None],
        tile_labels=np.asarray(labels or [-1] * count, dtype=np.int8),
    )


def ranked(tiles, count, size=(1000, 1000)):
    mapped = tile_mapping(tiles, "student_probability")
    found = rank_tiles(mapped, tiles.coords, tile_level0_px=100.0, size_level0_px=size, count=count)
    return found.top.tolist(), found.bottom.tolist()


def test_the_highest_and_the_lowest_tiles_are_ranked_without_meeting():
    tiles = table([0.1, 0.9, 0.5, 0.7, 0.3], [[100 * at, 0] for at in range(5)])
    assert ranked(tiles, 2) == ([1, 3], [0, 4])
    assert ranked(tiles, 4) == ([1, 3, 2, 4], [0])
    assert ranked(tiles, 0) == ([], [])


def test_equal_scores_are_ranked_from_the_top_left():
    tiles = table([0.5] * 4, [[100, 100], [0, 100], [100, 0], [0, 0]])
    assert ranked(tiles, 2) == ([3, 2], [1, 0])


@pytest.mark.parametrize(
    ("corner", "shown"), [((0, 0), True), ((-1, 0), False), ((0, 901), False), ((900, 900), True)]
)
def test_no_tile_reaches_beyond_the_slide(corner, shown):
    assert ranked(table([0.5], [corner]), 1)[0] == ([0] if shown else [])


def test_tiles_without_a_finite_score_are_not_shown():
    assert ranked(table([float("nan"), 0.2, float("inf")], [[0, 0], [100, 0], [200, 0]]), 2) == ([1], [])


def test_strips_name_the_mapping_the_resolution_and_the_truth():
    tiles = table([0.1, 0.9, 0.5], [[0, 0], [100, 0], [200, 300]], labels=[0, 1, -1])
    mapped = tile_mapping(tiles, "student_probability")
    found = rank_tiles(mapped, tiles.coords, tile_level0_px=100.0, size_level0_px=(1000, 1000), count=2)
    shown = shown_tiles(found, mapped, tiles, model=MODEL, slide_id="<s>", tile_mpp=0.5)
    assert [tile.chosen for tile in shown] == [(*MODEL, "<s>")] * 3
    strips = tile_strips(shown, [np.full((8, 8, 3), 40 * at, np.uint8) for at in range(3)])
    assert [strip.caption for strip in strips] == [
        "Highest student probability; tiles as read at 0.5 um/px",
        "Lowest student probability; tiles as read at 0.5 um/px",
    ]
    captions = [[picture.caption for picture in strip.pictures] for strip in strips]
    assert captions == [["0.900, labeled positive", "0.500"], ["0.100, labeled negative"]]
    assert strips[0].pictures[1].alt == "Tile of slide <s> at level-0 x 200, y 300: student probability 0.500"
    assert (strips[0].pictures[0].width_px, strips[0].pictures[0].height_px) == (8, 8)
    assert len({picture.data_uri for strip in strips for picture in strip.pictures}) == 3
