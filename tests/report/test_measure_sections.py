"""Sections of measures: cells repeat metrics.json; what has no value says why in place of the chart."""

import copy

import pytest
from report_runs import BOOTSTRAP, RunMaker

from wsi_kd.evaluation.slide_metrics import measure_slides
from wsi_kd.report.build import build_page
from wsi_kd.report.calls import calls_section
from wsi_kd.report.headline import headline_section
from wsi_kd.report.named_scores import main_recipe
from wsi_kd.report.numbers import TO
from wsi_kd.report.page import Chart, Note, Table
from wsi_kd.report.probabilities import calibration_section, decision_section
from wsi_kd.report.rates import curve_section
from wsi_kd.report.render import render_page
from wsi_kd.report.subgroups import subgroup_section
from wsi_kd.report.tile_scores import tile_section


def blocks_of(section, kind):
    return [block for block in section.blocks if isinstance(block, kind)]


def notes(section):
    return " ".join(block.text for block in blocks_of(section, Note))


def row_of(table, *first):
    headings = [column.heading for column in table.columns]
    return next(
        dict(zip(headings, row, strict=True))
        for row in table.rows
        if tuple(cell.text for cell in row[: len(first)]) == first
    )


@pytest.fixture(scope="module")
def student(clean_record):
    return clean_record.metrics["recipes"]["weno"]["scores"]["student"]


def spoilt(record, **changes):
    """The metrics with members of every score of every recipe replaced."""
    metrics = copy.deepcopy(record.metrics)
    for measured in metrics["recipes"].values():
        for score in measured["scores"].values():
            for name, value in changes.items():
                score[name] = copy.deepcopy(value)
    return metrics


def test_the_headline_holds_teacher_student_and_evidence_pooled_and_by_fold(clean_record, student):
    slides, tiles = blocks_of(headline_section(clean_record.metrics), Table)
    assert [row[0].text for row in slides.rows] == ["ABMIL teacher", "WENO teacher", "WENO student"]
    shown, pooled = row_of(slides, "WENO student"), student["pooled"]["roc_auc"]
    assert (shown["Pooled"].number, shown["Pooled"].note) == (
        pooled["estimate"],
        f"{pooled['low']:.3f}{TO}{pooled['high']:.3f}",
    )
    by_fold = {record["fold"]: record["roc_auc"]["value"] for record in student["per_fold"]}
    assert [shown[f"Fold {fold}"].number for fold in (0, 1)] == [by_fold[0], by_fold[1]]
    evidence = clean_record.metrics["recipes"]["weno"]["instances"]["evidence"]["pooled"]["roc_auc"]
    assert row_of(tiles, "WENO teacher evidence")["Pooled"].number == evidence["estimate"]
    assert "95% intervals by resampling patients" in notes(headline_section(clean_record.metrics))


def test_a_fold_is_the_mean_of_its_seeds_and_without_one_of_them_undefined(seeds_record):
    metrics = copy.deepcopy(seeds_record.metrics)
    records = metrics["recipes"]["weno"]["scores"]["teacher"]["per_fold"]
    first = [record["roc_auc"]["value"] for record in records if record["fold"] == 0]
    shown = row_of(blocks_of(headline_section(metrics), Table)[0], "WENO teacher")
    assert len(first) == 2
    assert shown["Fold 0"].number == pytest.approx(sum(first) / 2)
    fold = metrics["recipes"]["weno"]["scores"]["teacher"]["folds"][0]["roc_auc"]
    assert fold["low"] <= shown["Fold 0"].number <= fold["high"]
    assert shown["Fold 0"].note == f"{fold['low']:.3f}{TO}{fold['high']:.3f}"
    fold.update(estimate=None, low=None, high=None, reason="no negatives among 3")
    shown = row_of(blocks_of(headline_section(metrics), Table)[0], "WENO teacher")
    assert (shown["Fold 0"].text, shown["Fold 0"].note) == ("n/a", "no negatives among 3")


def test_a_fold_that_one_score_lacks_is_told_and_never_filled_by_another(clean_record):
    metrics = copy.deepcopy(clean_record.metrics)
    teacher = metrics["recipes"]["weno"]["scores"]["teacher"]
    kept = teacher["folds"].pop(0)
    assert kept["fold"] == 0
    shown = row_of(blocks_of(headline_section(metrics), Table)[0], "WENO teacher")
    assert (shown["Fold 0"].text, shown["Fold 0"].note) == ("n/a", "not measured")
    assert shown["Fold 1"].number == teacher["folds"][0]["roc_auc"]["estimate"]


def test_curves_are_drawn_and_missing_ones_named_with_their_reason(clean_record):
    roc, pr = blocks_of(curve_section(clean_record.metrics), Chart)
    assert all(name in roc.svg and name in pr.svg for name in ("ABMIL teacher", "WENO student"))
    assert "the share of positive slides, 0.50" in pr.caption
    nothing = {"roc": {"sensitivity": [], "reason": "no negatives among 12"}}
    nothing["pr"] = {"recall": [], "chance": None, "reason": "no negatives among 12"}
    section = curve_section(spoilt(clean_record, curves=nothing))
    assert blocks_of(section, Chart) == []
    assert notes(section) == "ABMIL teacher, WENO student, WENO teacher: no negatives among 12."


def test_operating_points_repeat_the_metrics_and_say_where_they_were_chosen(clean_record, student):
    section = calls_section(clean_record.metrics)
    table = next(
        table for table in blocks_of(section, Table) if table.caption == "WENO student: operating points"
    )
    rules = ["Youden's index", "Sensitivity ≥ 0.95", "Specificity ≥ 0.95", "As stored with the model"]
    assert [row[0].text for row in table.rows] == rules
    assert {row[0].note for row in table.rows} == {"chosen on val"}
    point = next(point for point in student["operating_points"] if point["rule"] == "sensitivity")
    shown = row_of(table, "Sensitivity ≥ 0.95")
    assert shown["PPV"].number == point["ppv"]["estimate"]
    assert shown["False negative"].number == point["confusion"]["false_negative"]
    values = sorted(part["value"] for part in point["thresholds"])
    assert shown["Thresholds"].text == f"{values[0]:.3f}{TO}{values[-1]:.3f}"
    assert "validation slides, never on test" in notes(section)
    assert not table.folded
    assert next(t for t in blocks_of(section, Table) if t.caption.startswith("ABMIL")).folded


def test_an_operating_point_without_validation_slides_says_so(clean_record):
    metrics = copy.deepcopy(clean_record.metrics)
    point = metrics["recipes"]["weno"]["scores"]["student"]["operating_points"][0]
    unknown = {"estimate": None, "low": None, "high": None, "reason": ""}
    reason = "seed 0, fold 1: no validation slides"
    point.update(
        confusion=None, reason=reason, sensitivity=unknown, specificity=unknown, ppv=unknown, npv=unknown
    )
    point["thresholds"] = [{"seed": 0, "fold": 1, "value": None, "reason": "no validation slides"}]
    tables = blocks_of(calls_section(metrics), Table)
    row = next(table for table in tables if table.caption == "WENO student: operating points").rows[0]
    assert row[0].note == reason
    assert (row[1].text, row[1].note) == ("n/a", "no validation slides")
    assert {cell.text for cell in row[1:]} == {"n/a"}


def test_calibration_is_shown_before_and_after_scaling(clean_record, student):
    section = calibration_section(clean_record.metrics)
    (table,) = blocks_of(section, Table)
    before, after = (row_of(table, "WENO student", version) for version in ("as scored", "scaled"))
    calibration = student["calibration"]
    assert before["ECE"].number == calibration["before"]["ece"]["estimate"]
    assert after["Brier score"].number == calibration["after"]["brier"]["estimate"]
    assert before["ECE by chance"].number == calibration["before"]["ece_if_calibrated"]
    values = [part["value"] for part in calibration["temperatures"]]
    assert after["Temperature"].number == pytest.approx(sum(values) / 2)
    assert before["Temperature"].text == ""
    charts = blocks_of(section, Chart)
    bins = calibration["before"]["bins"]
    assert f"{len(bins)} bins of about" in charts[-1].caption
    assert "fitted on its fold's validation slides, never on test" in notes(section)
    assert [chart.folded for chart in charts] == [True, False, False]


def test_without_calibration_the_reason_stands_in_place_of_the_chart(clean_record):
    unknown = {"estimate": None, "low": None, "high": None, "reason": "no negatives"}
    record = {name: unknown for name in ("ece", "brier", "log_loss", "slope", "intercept")}
    record |= {"ece_if_calibrated": None, "bins": [], "reason": "no negatives"}
    nothing = {"slides": 12, "before": record, "after": record, "temperatures": [], "reason": "no negatives"}
    section = calibration_section(spoilt(clean_record, calibration=nothing))
    assert blocks_of(section, Chart) == []
    assert "WENO student: no reliability diagram: no negatives." in notes(section)
    row = blocks_of(section, Table)[0].rows[0]
    assert [cell.note for cell in row if cell.note] == ["no negatives"]


def test_the_decision_curve_or_its_absence(clean_record, student):
    charts = blocks_of(decision_section(clean_record.metrics), Chart)
    assert len(charts) == 3
    assert "50% of the slides are positive" in charts[-1].caption
    assert ("scaled by temperature" in charts[-1].svg) == (student["decision_curve"]["scaled"] is not None)
    nothing = {"thresholds": [], "reason": "one class only"}
    section = decision_section(spoilt(clean_record, decision_curve=nothing))
    assert blocks_of(section, Chart) == []
    assert "ABMIL teacher: no decision curve: one class only." in notes(section)


def test_subgroups_repeat_the_metrics_and_small_ones_are_warned_of(clean_record, student):
    section = subgroup_section(clean_record.metrics)
    table = next(table for table in blocks_of(section, Table) if table.caption.startswith("WENO student"))
    group = next(group for group in student["subgroups"] if group["value"] == "north")
    shown = row_of(table, "site", "north")
    assert shown["Cases"].number == group["cases"] == 12
    assert shown["Sensitivity"].number == group["sensitivity"]["estimate"]
    assert shown["Value"].note == "fewer than 20 cases"
    small, follows = [note.text for note in blocks_of(section, Note) if note.caution]
    assert "fewer than 20 cases in site (none named), site north" in small
    assert "site alone calls 24 of 24 slides rightly" in follows  # every slide of north is a tumor
    metrics = spoilt(clean_record, subgroups=[{**group, "small": False}])
    assert [note for note in blocks_of(subgroup_section(metrics), Note) if note.caution] == []


def test_a_group_that_cannot_be_measured_says_why_once(clean_record, student):
    unknown = {"estimate": None, "low": None, "high": None, "reason": "no slide with a label"}
    group = {**student["subgroups"][0], "reason": "no slide with a label", "small": False}
    group |= dict.fromkeys(("roc_auc", "sensitivity", "specificity"), unknown)
    (row, *_) = blocks_of(subgroup_section(spoilt(clean_record, subgroups=[group])), Table)[0].rows
    assert [cell.note for cell in row if cell.note] == ["no slide with a label"]
    assert [cell.text for cell in row[-3:]] == ["n/a"] * 3
    assert "No subgroup" in notes(subgroup_section(spoilt(clean_record, subgroups=[])))


def test_froc_repeats_the_score_of_camelyon16(clean_record):
    section = tile_section(clean_record.metrics)
    table = next(table for table in blocks_of(section, Table) if table.caption.startswith("FROC"))
    froc = clean_record.metrics["recipes"]["weno"]["instances"]["student"]["froc"]
    shown = row_of(table, "WENO student")
    assert shown["CAMELYON16 score"].number == froc["score"]["estimate"]
    assert shown["at 0.25 FP"].number == froc["sensitivity"][0]
    assert shown["Detections a slide"].number == froc["candidates"]
    assert (
        f"negative slides: {froc['negative_slides']['score']['estimate']:.3f}"
        in shown["CAMELYON16 score"].note
    )
    assert f"{froc['lesions']} lesions on {froc['slides']} slides; {froc['hit_rule']}." in notes(section)
    assert [chart.folded for chart in blocks_of(section, Chart)] == [True, False]


def test_without_lesions_there_is_no_froc_and_it_is_said(clean_record):
    metrics = copy.deepcopy(clean_record.metrics)
    for measured in metrics["recipes"].values():
        for record in measured["instances"].values():
            record["froc"]["curve"]["sensitivity"] = []
            record["froc"].update(sensitivity=[], reason="no lesion in the test slides")
    section = tile_section(metrics)
    assert blocks_of(section, Chart) == []
    assert "No FROC curve: no lesion in the test slides." in notes(section)


def test_the_recipe_that_stands_first_is_the_last_one_with_a_student(clean_record):
    assert main_recipe(clean_record.metrics) == "weno"
    assert main_recipe({**clean_record.metrics, "recipes": {}}) is None
    assert main_recipe(RunMaker(recipes=("abmil",)).record().metrics) == "abmil"


class OneClass(RunMaker):
    """A run whose test slides are all negative."""

    def label(self, slide):
        return 0 if slide < 1000 else slide % 2


@pytest.fixture(scope="module")
def odd_page():
    """One class only, a teacher's score that is no number, and a slide without a label."""
    maker = OneClass(recipes=("weno",), folds=1, slides=6)
    (model,) = maker.models()
    rows = (model.test[0]._replace(teacher_probability=float("nan")), *model.test[1:])
    record = maker.record()
    measured = measure_slides([maker.part(model, rows, "teacher")], **BOOTSTRAP)
    record.metrics["recipes"]["weno"]["scores"]["teacher"] = measured.metrics
    record.metrics["cohort"]["unlabeled"] = 1
    unlabeled = (*rows[:-1], rows[-1]._replace(label=""))
    return render_page(build_page(record._replace(models=(model._replace(test=unlabeled),))))


def test_a_run_of_one_class_makes_a_page_that_says_so(odd_page):
    assert "no positives among 6" in odd_page
    assert 'id="roc-title"' not in odd_page
    assert "WENO student: no positive" in odd_page


def test_scores_that_are_no_numbers_make_a_page_that_says_so(odd_page):
    assert "1 of 6 scores are not finite" in odd_page
    assert "Read with care: 1 of 6 slides have no finite score by WENO teacher." in odd_page
    assert "WENO teacher: no decision curve: 1 of 6 scores are not finite" in odd_page
    assert ">nan<" not in odd_page


def test_slides_without_a_label_are_counted_and_drawn_by_themselves(odd_page):
    assert "1 slides have no label: they are scored, and in no number here." in odd_page
    assert "no label (1)" in odd_page
