"""Sections: the page's cells against the numbers of metrics.json; undefined numbers say why."""

import copy

import pytest
from report_runs import RunMaker

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.build import build_page
from wsi_kd.report.cohort import cohort_section, status_section
from wsi_kd.report.comparisons import comparison_section
from wsi_kd.report.gallery import choose_slides, gallery_section, slide_card
from wsi_kd.report.numbers import TO
from wsi_kd.report.page import Note, Table
from wsi_kd.report.performance import (
    confusion_section,
    fold_section,
    instance_section,
    performance_section,
)
from wsi_kd.report.render import render_page
from wsi_kd.report.scores import roc_section, score_section, training_section


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def notes(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Note))


def row_of(table, name):
    headings = [column.heading for column in table.columns]
    return next(dict(zip(headings, row, strict=True)) for row in table.rows if row[0].text == name)


def test_the_headline_repeats_the_pooled_estimates(clean_record):
    metrics = clean_record.metrics
    (table,) = tables(performance_section(metrics))
    assert [row[0].text for row in table.rows] == [
        "Mean features (baseline)",
        "ABMIL teacher",
        "WENO teacher",
        "WENO student",
        "WENO student by maximum",
    ]
    student = metrics["recipes"]["weno"]["scores"]["student"]
    shown, pooled = row_of(table, "WENO student"), student["pooled"]["roc_auc"]
    assert shown["AUC"].text == f"{pooled['estimate']:.3f}"
    assert shown["AUC"].note == f"{pooled['low']:.3f}{TO}{pooled['high']:.3f}"
    assert shown["AUC over folds"].note == f"± {student['over_folds']['roc_auc']['sd']:.3f}"
    assert shown["AUC over seeds"].note == "one value"


def test_the_headline_says_where_thresholds_come_from_and_warns_of_few_slides(clean_record):
    section = performance_section(clean_record.metrics)
    assert "rule youden, chosen on the part 'val' of each fold, never on test" in notes(section)
    assert "the rarer class has 12 test slides" in notes(section)
    assert "Mean features (baseline), ABMIL teacher: an interval without width" in notes(section)
    assert "Read with care" not in notes(performance_section(RunMaker(slides=80).record().metrics))


def test_the_headline_says_what_the_numbers_do_not_say(clean_record):
    told = notes(performance_section(clean_record.metrics))
    assert "resamples of patients, with the models as they are" in told
    assert "slides of another hospital, scanner or stain, this page cannot say" in told
    assert "each class against the rest" not in told
    three = {**clean_record.metrics, "classes": ["normal", "low", "high"]}
    assert "tell not normal from normal only" in notes(performance_section(three))


def test_undefined_metrics_are_shown_with_their_reason(clean_record):
    metrics = copy.deepcopy(clean_record.metrics)
    scores = metrics["recipes"]["weno"]["scores"]["student"]
    nothing = {"estimate": None, "low": None, "high": None, "reason": "no positives among 8"}
    scores["pooled"]["roc_auc"].update(nothing)
    scores["over_folds"]["roc_auc"].update({"mean": None, "sd": None, "count": 0})
    scores["per_fold"][0]["roc_auc"].update({"value": None, "reason": "no negatives among 3"})
    shown = row_of(tables(performance_section(metrics))[0], "WENO student")
    assert (shown["AUC"].text, shown["AUC"].note) == ("n/a", "no positives among 8")
    assert shown["AUC over folds"].text == "n/a"
    fold = row_of(tables(fold_section(metrics))[0], "WENO student")
    assert fold["AUC"].note == "no negatives among 3"
    assert (fold["Threshold"].text, fold["Threshold"].note) == ("0.400", "")


def test_confusion_matrices_hold_every_slide(clean_record):
    matrices = tables(confusion_section(clean_record.metrics))[:-1]
    assert [table.caption for table in matrices][-1] == "WENO student"
    counts = clean_record.metrics["recipes"]["weno"]["scores"]["student"]["per_seed"][0]["confusion"]
    (positive, negative) = matrices[-1].rows
    assert [cell.text for cell in positive] == [
        "tumor",
        str(counts["true_positive"]),
        str(counts["false_negative"]),
    ]
    assert [cell.text for cell in negative] == [
        "normal",
        str(counts["false_positive"]),
        str(counts["true_negative"]),
    ]
    assert sum(cell.number for row in matrices[-1].rows for cell in row[1:]) == 24


def test_confusion_of_several_seeds_is_their_mean_with_each_listed():
    metrics = RunMaker(seeds=(0, 1)).record().metrics
    counts = [
        record["confusion"]["true_positive"]
        for record in metrics["recipes"]["abmil"]["scores"]["teacher"]["per_seed"]
    ]
    cell = next(
        table for table in tables(confusion_section(metrics)) if table.caption == "ABMIL teacher"
    ).rows[0][1]
    assert cell.number == sum(counts) / 2
    assert cell.note == f"by seed: {counts[0]}, {counts[1]}"


def test_tile_scores_name_their_convention_and_absence_is_told(clean_record):
    table = tables(instance_section(clean_record.metrics))[0]
    attention = clean_record.metrics["recipes"]["abmil"]["instances"]["attention"]
    shown = row_of(table, "ABMIL attention")
    assert shown["Tile score"].note == attention["convention"]
    assert shown["AUC: within slide"].number == attention["pooled"]["roc_auc_within_slide"]["estimate"]
    chance = row_of(table, "Chance")
    assert chance["AUC: all tiles"].text == "0.500"
    assert chance["AP: positive slides"].number == attention["chance"]["average_precision_positive_slides"]
    assert "WENO attention x evidence" in [row[0].text for row in table.rows]
    metrics = copy.deepcopy(clean_record.metrics)
    for recipe in metrics["recipes"].values():
        recipe["instances"] = {}
    assert "No test tile has a label" in notes(instance_section(metrics))


def test_differences_from_the_baseline_repeat_the_metrics(clean_record):
    metrics = clean_record.metrics
    slides, tiles = tables(comparison_section(metrics))
    record = next(one for one in metrics["comparisons"]["slides"] if one["score"] == "student")
    shown, found = row_of(slides, "WENO student"), record["metrics"]["roc_auc"]
    assert shown["Against"].text == "ABMIL teacher"
    assert shown["AUC"].text == f"{found['estimate']:+.3f}"
    assert shown["AUC"].note == f"{found['low']:+.3f}{TO}{found['high']:+.3f}"
    assert slides.rows[1][3].number == found["p_value"]
    assert [row[0].text for row in slides.rows] == ["WENO teacher", "WENO student", "WENO student by maximum"]
    pairs = [(row[0].text, row[1].text) for row in tiles.rows]
    assert pairs[-2:] == [("WENO student", "ABMIL evidence"), ("WENO student", "WENO evidence")]


def test_without_the_baseline_recipe_nothing_is_compared_and_it_is_said():
    section = comparison_section(RunMaker(recipes=("weno",)).record().metrics)
    assert "the recipe abmil (evaluate.baseline) is not among those evaluated" in notes(section)
    assert [table.caption for table in tables(section)] == []


def test_every_slide_has_its_status_and_every_failure_its_reason(clean_record):
    section = status_section(clean_record.statuses)
    flow, failed, everyone = tables(section)
    assert [(row[0].text, row[2].number) for row in flow.rows] == [("ok", 24.0), ("empty", 1.0)]
    assert [[cell.text for cell in row] for row in failed.rows] == [
        ["glass", "empty", "mask", "no tissue found"]
    ]
    assert len(everyone.rows) == 25
    assert everyone.folded
    assert row_of(everyone, "glass")["Resolution (um/px)"].text == "n/a"
    assert "1 of 25 slides were left out" in notes(section)


def test_without_failures_there_is_no_failure_table():
    rows = [StatusRow("a", SlideStatus.OK, "", "embed", 10, 1.0, 0.25, "override", 0.1)]
    section = status_section(rows)
    assert notes(section) == "All 1 slides were used."
    assert [table.caption for table in tables(section)] == ["Flow of slides", "All slides"]


def test_parts_list_slides_and_cases_per_class(clean_record):
    (table,) = tables(cohort_section(clean_record.metrics))
    assert [column.heading for column in table.columns][-2:] == ["Slides: normal", "Slides: tumor"]
    assert [cell.text for cell in table.rows[0]] == ["0", "test", "12", "6", "12", "12"]


def test_curves_need_both_classes(clean_record):
    one_class = [
        model._replace(test=tuple(row for row in model.test if row.label == "normal"))
        for model in clean_record.models
    ]
    section = roc_section(clean_record._replace(models=tuple(one_class)))
    assert "do not hold both classes" in notes(section)
    assert len(roc_section(clean_record).blocks) == 1


def test_a_run_without_models_still_makes_a_page(clean_record):
    nothing = {"baseline": "abmil", "reason": "no recipe", "slides": [], "tiles": []}
    metrics = {**clean_record.metrics, "recipes": {}, "baselines": {}, "comparisons": nothing}
    record = clean_record._replace(metrics=metrics, models=(), cards=())
    html = render_page(build_page(record))
    assert "Nothing was predicted" in html
    assert "No slide was scored." in html
    assert "No training history was found." in html
    assert "No slide is shown" in html


def test_charts_of_later_seeds_are_folded():
    record = RunMaker(recipes=("weno",), seeds=(4, 7), folds=1).record()
    charts = training_section(record.models).blocks
    assert [chart.folded for chart in charts] == [False, False, True, True]
    assert [chart.caption for chart in score_section(record).blocks] == [
        "WENO teacher, seed 4, test slides.",
        "WENO student, seed 4, test slides.",
    ]


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


def test_models_that_never_improved_are_counted(clean_record):
    assert "first epoch" not in notes(training_section(clean_record.models))
    stuck = [model._replace(selected_epoch=0) for model in clean_record.models[:1]]
    assert "1 of 1 models were kept at their first epoch" in notes(training_section(stuck))
