"""Reporting items: each is answered or says why not; numbers by hand on a drawn run."""

from pathlib import Path

import jsonschema
import pytest
from report_runs import RunMaker
from reporting_parts import made_sources

from wsi_kd.bags.splits import Fold
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.json_schema import schema_text
from wsi_kd.report.reporting_cohort import partition_level
from wsi_kd.report.reporting_items import reporting_items
from wsi_kd.report.reporting_labels import CHECKLIST
from wsi_kd.report.reporting_schema import Items, reporting_schema
from wsi_kd.report.reporting_section import reporting_section

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "docs/schemas/reporting_items.schema.json"
NEVER = {"dates", "label_source", "sample_size_rationale", "demographics", "external_test"}
"""Items that no run of wsi_kd can answer."""
OF_MODELS = {
    *("preprocessing", "model_specification", "initialization", "training", "model_selection", "ensembling"),
    *("metrics", "uncertainty", "robustness", "explainability", "performance", "threshold_origin"),
    *("failures", "subgroups", "calibration"),
}
"""Items that a run without models cannot answer."""


@pytest.fixture(scope="module")
def sources(clean_record):
    return made_sources(RunMaker(), clean_record.models, clean_record.metrics)


@pytest.fixture(scope="module")
def told(sources):
    return reporting_items(sources, settings={"title": "A run"})


@pytest.fixture(scope="module")
def untrained(sources):
    metrics = {**sources.metrics, "recipes": {}}
    return sources._replace(metrics=metrics, models=(), headers=(), validation={}, jobs=())


def status_of(told, status):
    return {key for key, item in told["items"].items() if item["status"] == status}


def fits(told):
    jsonschema.validate({**told, "content_sha256": "any"}, reporting_schema())


def test_every_item_is_answered_or_says_why_not(told, record_property):
    fits(told)
    assert status_of(told, "not available") == NEVER
    assert list(told["items"]) == list(Items.__annotations__) == list(CHECKLIST) == list(told["checklist"])
    reasons = [item["reason"] for item in told["items"].values() if item["status"] == "not available"]
    assert min(map(len, reasons)) > 20
    count, absent = len(told["items"]), len(reasons)
    record_property(
        "figure", f"G16: {count} items, {count - absent} present, {absent} not available with a reason"
    )


def test_a_run_without_models_says_so_of_each_item(untrained):
    told = reporting_items(untrained, settings={})
    fits(told)
    assert status_of(told, "not available") == NEVER | OF_MODELS | {"computation"}
    assert told["items"]["training"]["reason"] == "no model was trained in this run"
    assert told["items"]["computation"]["reason"].startswith("the run holds no benchmark files")
    tables = [block.caption for block in reporting_section(told).blocks if block.kind == "table"]
    assert tables == ["Checklist", "Flow of slides, from the manifest to the numbers"]


def test_slides_are_followed_from_the_manifest_to_the_numbers(sources):
    """25 slides: one empty, four in no part, one of the others without a label: 19 are measured."""
    first, second = sources.splits.folds
    kept = Fold(first.train, first.val[2:], first.test[:-2])
    folds = (kept, Fold(second.train, (), second.test[2:]))
    labels = {**sources.splits.label_of, first.test[0]: ""}
    splits = sources.splits._replace(folds=folds, label_of=labels)
    facts = reporting_items(sources._replace(splits=splits), settings={})["items"]["flow"]["facts"]
    assert [(one["step"], one["slides_in"], one["slides_out"]) for one in facts["stages"]] == [
        ("mask", 25, 24),
        ("tile", 24, 24),
        ("embed", 24, 24),
        ("split", 24, 20),
        ("test", 20, 20),
        ("evaluate", 20, 19),
    ]
    assert facts["stages"][0]["left_out"] == {"empty": 1}
    assert facts["stages"][3]["left_out"] == {"in no part of any fold": 4}
    assert facts["excluded"] == [
        {"slide_id": "glass", "step": "mask", "status": "empty", "reason": "no tissue found"}
    ]


def test_slides_that_are_never_tested_are_counted(sources):
    folds = (sources.splits.folds[0]._replace(test=sources.splits.folds[0].test[:-2]),)
    splits = sources.splits._replace(folds=folds)
    items = reporting_items(sources._replace(splits=splits), settings={})["items"]
    stages = {stage["step"]: stage for stage in items["flow"]["facts"]["stages"]}
    assert stages["split"]["slides_out"] == 22
    assert stages["test"]["left_out"] == {"never in a test part": 12}
    assert items["partition"]["facts"] == {
        "origin": "column split of the manifest",
        "folds": 1,
        "seed": None,
        "splits_sha256": "cd" * 32,
    }


def test_wrong_calls_are_those_that_the_threshold_makes_wrong(sources, told):
    facts = told["items"]["failures"]["facts"]
    assert (facts["recipe"], facts["score"], facts["calls"]) == ("weno", "student", 24)
    rows = [row for model in sources.models if model.recipe == "weno" for row in model.test]
    wrong = {row.slide_id for row in rows if (row.label == "tumor") != (row.student_probability >= 0.4)}
    assert {call["slide_id"] for call in facts["wrong"]} == wrong
    assert 0 < len(wrong) < 24
    assert all(call["call"] != call["label"] for call in facts["wrong"])
    far = [
        (call["probability"] - 0.4) / (0.6 if call["call"] == "tumor" else -0.4) for call in facts["wrong"]
    ]
    assert far == sorted(far, reverse=True)


def test_every_score_has_every_part_with_intervals_or_a_reason(sources, told):
    facts = told["items"]["performance"]["facts"]
    names = [("abmil", "teacher"), ("weno", "teacher"), ("weno", "student")]
    parts = [(one["recipe"], one["score"], one["part"]) for one in facts]
    assert parts == [(*name, part) for name in names for part in ("train", "val", "test")]
    for one in facts:
        assert bool(one["reason"]) is (one["part"] == "train")
    tested = next(one for one in facts if (one["recipe"], one["part"]) == ("abmil", "test"))
    pooled = sources.metrics["recipes"]["abmil"]["scores"]["teacher"]["pooled"]["roc_auc"]
    area = tested["metrics"]["roc_auc"]
    assert (area["estimate"], area["low"], area["high"]) == tuple(
        pooled[key] for key in ("estimate", "low", "high")
    )
    assert (area["confidence"], tested["slides"]) == (0.95, 24)
    validated = next(one for one in facts if (one["recipe"], one["part"]) == ("abmil", "val"))
    assert validated["slides"] == 32
    assert validated["metrics"]["roc_auc"]["low"] < validated["metrics"]["roc_auc"]["high"]


def test_a_run_whose_manifest_names_no_patient_says_so(sources):
    alone = {slide_id: slide_id for slide_id in sources.splits.case_of}
    level = partition_level(sources._replace(splits=sources.splits._replace(case_of=alone)))
    assert "The manifest names no patient (column case_id)" in level["text"]


def test_facts_worked_out_by_hand(told):
    items = told["items"]
    assert items["class_imbalance"]["facts"]["shares"] == {"normal": 0.5, "tumor": 0.5}
    assert items["missing_data"]["facts"]["slides"] == {
        "label": 0,
        "resolution": 0,
        "site": 0,
        "scanner": 0,
    }
    assert items["data_sources"]["facts"]["sites"] == {"site": 24}
    assert items["preprocessing"]["facts"]["left_out"]["blurred"] == 0
    assert items["partition"]["facts"]["seed"] == 7
    assert items["partition_level"]["facts"] == {"level": "case", "folds_checked": 2, "cases_in_two_parts": 0}
    assert "names no patient" not in items["partition_level"]["text"]
    assert items["computation"]["facts"]["seconds"] == {"mask": 12.0, "train": 150.0}
    assert items["computation"]["facts"]["largest_rss_mb"] == 900.5
    assert [one["epochs"] for one in items["training"]["facts"]] == [[8, 8], [8, 8]]
    assert {model["values"]["student"] for model in items["threshold_origin"]["facts"]} == {None, 0.4}
    hashes = items["hashes"]["facts"]
    assert (len(hashes["models"]), len(hashes["slides"]), hashes["code"]) == (4, 24, "abc")


def test_a_split_that_was_given_has_no_seed(sources):
    settings = {"folds": 5, "seed": 7, "given": "splits"}
    given = sources._replace(splits=sources.splits._replace(settings=settings))
    facts = reporting_items(given, settings={})["items"]["partition"]["facts"]
    assert (facts["origin"], facts["seed"]) == ("given", None)


def test_a_case_in_two_parts_is_an_error(sources):
    """Slides 0 and 1 are case 0, tested in fold 0; slide 2 is validated there."""
    cases = {**sources.splits.case_of, "slide_2": "case_0"}
    leaking = sources._replace(splits=sources.splits._replace(case_of=cases))
    with pytest.raises(BadInput, match=r"fold 0 leaks: cases in more than one part: case_0 \(val and test\)"):
        reporting_items(leaking, settings={})


@pytest.mark.parametrize(
    "broken",
    [
        lambda items: items.pop("flow"),
        lambda items: items.update(more=items["flow"]),
        lambda items: items["dates"].update(reason=""),
        lambda items: items["software"].pop("facts"),
        lambda items: items.update(partition_level=items["dates"]),
        lambda items: items["performance"].update(status="not available"),
        lambda items: items["sample_size"]["facts"].update(slides="many"),
    ],
)
def test_the_schema_refuses_what_is_no_answer(sources, broken):
    told = reporting_items(sources, settings={})
    broken(told["items"])
    with pytest.raises(jsonschema.ValidationError):
        fits(told)


def test_the_schema_in_the_documentation_is_this_one(capsys):
    text = schema_text(reporting_schema())
    jsonschema.Draft202012Validator.check_schema(reporting_schema())
    assert SCHEMA_FILE.read_text(encoding="utf-8") == text
    assert run(["config", "reporting-schema"]) == 0
    assert capsys.readouterr().out == text


def test_the_section_shows_every_item_and_points_to_sections_that_exist(clean_record, told):
    from wsi_kd.report.build import build_page

    page = build_page(clean_record)
    section = next(part for part in page.sections if part.anchor == "reporting")
    checklist = next(block for block in section.blocks if block.kind == "table")
    assert [row[0].text for row in checklist.rows] == [label["heading"] for label in CHECKLIST.values()]
    assert [row[3].text for row in checklist.rows].count("not available") == len(NEVER)
    anchors = {part.anchor for part in page.sections}
    assert {label["section"] for label in CHECKLIST.values()} - {""} <= anchors
