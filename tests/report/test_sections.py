"""Sections: the page's cells against the numbers of metrics.json; undefined numbers say why."""

import copy

from report_runs import RunMaker

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.build import build_page
from wsi_kd.report.calls import calls_section
from wsi_kd.report.cohort import cohort_section, status_section
from wsi_kd.report.comparisons import comparison_section
from wsi_kd.report.numbers import TO
from wsi_kd.report.page import Note, Table
from wsi_kd.report.performance import fold_section, performance_section
from wsi_kd.report.render import render_page
from wsi_kd.report.scores import score_section, training_section
from wsi_kd.report.slide_quality import slide_quality
from wsi_kd.report.tile_scores import tile_section


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
    matrices = [table for table in tables(calls_section(clean_record.metrics)) if table.compact][:-1]
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


def test_confusion_of_several_seeds_is_their_mean_with_each_listed(seeds_record):
    metrics = seeds_record.metrics
    counts = [
        record["confusion"]["true_positive"]
        for record in metrics["recipes"]["abmil"]["scores"]["teacher"]["per_seed"]
    ]
    cell = next(table for table in tables(calls_section(metrics)) if table.caption == "ABMIL teacher").rows[
        0
    ][1]
    assert cell.number == sum(counts) / 2
    assert cell.note == f"by seed: {counts[0]}, {counts[1]}"


def test_tile_scores_name_their_convention_and_absence_is_told(clean_record):
    table = tables(tile_section(clean_record.metrics))[0]
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
        recipe.update(instances={}, instances_reason="no tile has a label")
    assert "Tile scores cannot be measured: no tile has a label." in notes(tile_section(metrics))


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
    section = status_section(clean_record.slides)
    flow, failed, _, everyone = tables(section)
    assert [(row[0].text, row[2].number) for row in flow.rows] == [("ok", 24.0), ("empty", 1.0)]
    assert [[cell.text for cell in row] for row in failed.rows] == [
        ["glass", "empty", "mask", "no tissue found"]
    ]
    assert len(everyone.rows) == 25
    assert everyone.folded
    assert row_of(everyone, "glass")["um/px"].text == "n/a"
    assert "1 of 25 slides were left out" in notes(section)


def test_without_failures_there_is_no_failure_table():
    row = StatusRow("a", SlideStatus.OK, "", "embed", 10, 1.0, 0.25, "override", 0.1)
    section = status_section([slide_quality(row, None)])
    assert notes(section).startswith("All 1 slides were used. Tiles of 0 of 1 used slides were measured.")
    captions = [table.caption for table in tables(section)]
    assert captions == ["Flow of slides", "Quality of the used slides", "All slides"]


def test_parts_list_slides_and_cases_per_class(clean_record):
    (table,) = tables(cohort_section(clean_record.metrics))
    assert [column.heading for column in table.columns][-2:] == ["Slides: normal", "Slides: tumor"]
    assert [cell.text for cell in table.rows[0]] == ["0", "test", "12", "6", "12", "12"]


def test_a_run_without_models_still_makes_a_page(clean_record):
    nothing = {"baseline": "abmil", "reason": "no recipe", "slides": [], "tiles": []}
    metrics = {**clean_record.metrics, "recipes": {}, "baselines": {}, "comparisons": nothing}
    record = clean_record._replace(metrics=metrics, models=(), cards=())
    html = render_page(build_page(record))
    assert "Nothing was predicted" in html
    assert "No slide was scored." in html
    assert "No training history was found." in html
    assert "No slide is shown" in html


def test_charts_of_later_seeds_are_folded(clean_record):
    record = clean_record._replace(models=RunMaker(recipes=("weno",), seeds=(4, 7), folds=1).models())
    charts = training_section(record.models).blocks
    assert [chart.folded for chart in charts] == [False, False, True, True]
    assert [chart.caption for chart in score_section(record).blocks] == [
        "WENO teacher, seed 4, test slides.",
        "WENO student, seed 4, test slides.",
    ]


def test_models_that_never_improved_are_counted(clean_record):
    assert "first epoch" not in notes(training_section(clean_record.models))
    stuck = [model._replace(selected_epoch=0) for model in clean_record.models[:1]]
    assert "1 of 1 models were kept at their first epoch" in notes(training_section(stuck))
