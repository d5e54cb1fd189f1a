"""evaluate where something cannot be measured: it ends with a metrics.json that says why."""

import json
import math

import numpy as np
import pytest
from scored_runs import Run, features_of

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.evaluation.summary import summary_lines
from wsi_kd.features.store import write_features
from wsi_kd.inference.tables import read_predictions, write_predictions
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.evaluate import run_evaluate


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def relabel(run, labels):
    """Give slides of the single fold's test part other labels, in the manifest and in splits.csv."""
    run.folds = [run.folds[0], run.folds[0]]
    run.rows = [row._replace(label=labels.get(row.slide_id, row.label)) for row in run.rows]
    run.manifest = Manifest(tuple(run.rows), run.classes)
    run.write_splits()


def change(folder, changed):
    """Write predictions again, each row as `changed` makes it (None: left out)."""
    for path in (folder / "predictions.csv", folder / "last" / "predictions.csv"):
        table = read_predictions(path)
        rows = [new for row in table.rows if (new := changed(row)) is not None]
        header = {key: value for key, value in table.header.items() if not key.endswith("content_sha256")}
        write_predictions(path, rows, classes=header["classes"], header=header)


def evaluated(run, folders):
    metrics = run.evaluate(folders)
    stored = read_json(run.root / "evaluation/metrics.json", remake="")
    assert "NaN" not in json.dumps(stored, allow_nan=False)
    assert summary_lines(metrics, report_path=run.root)
    return metrics


def test_predictions_without_any_label_end_with_reasons(run):
    relabel(run, dict.fromkeys(run.folds[0].test, ""))
    models = [(recipe, fold) for recipe in ("abmil", "weno") for fold in (0, 1)]
    metrics = evaluated(run, [run.predict(recipe, fold=fold) for recipe, fold in models])
    assert metrics["cohort"]["unlabeled"] == len(run.folds[0].test) == 9
    student = metrics["recipes"]["weno"]["scores"]["student"]
    told = "no slide with a label"
    assert student["pooled"]["roc_auc"] | {"confidence": 0} == {
        "estimate": None,
        "low": None,
        "high": None,
        "confidence": 0,
        "resamples": 0,
        "redrawn": 0,
        "reason": told,
    }
    assert student["per_seed"][0]["slides"] == 0
    assert student["curves"]["roc"]["reason"] == student["decision_curve"]["reason"] == told
    assert student["calibration"]["reason"] == told
    assert [point["reason"] for point in student["operating_points"]] == [told] * 4
    assert all(one["value"] is not None for one in student["operating_points"][0]["thresholds"])
    assert (student["subgroups"], student["chance"]["average_precision"]) == ([], None)
    assert metrics["recipes"]["weno"]["instances"] == {}
    assert metrics["recipes"]["weno"]["instances_reason"] == "no tile of a test slide is labeled positive"
    assert metrics["baselines"]["bag_mean"]["pooled"]["roc_auc"]["reason"] == told
    area = metrics["comparisons"]["slides"][0]["metrics"]["roc_auc"]
    assert (area["estimate"], area["p_value"]) == (None, None)


def test_slides_without_a_label_are_left_out_of_every_measure(run):
    dropped = run.folds[0].test[:3]
    relabel(run, dict.fromkeys(dropped, ""))
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    metrics = evaluated(run, folders)
    record = metrics["recipes"]["weno"]["scores"]["teacher"]["per_fold"][0]
    assert record["slides"] == 6
    rows = [row for row in read_predictions(folders[0] / "predictions.csv").rows if row.part == "test"]
    assert len(rows) == 9
    known = [row for row in rows if row.label]
    pairs = [
        (positive.teacher_probability > negative.teacher_probability)
        for positive in known
        for negative in known
        if (positive.label, negative.label) == ("tumor", "normal")
    ]
    assert record["roc_auc"]["value"] == pytest.approx(np.mean(pairs))
    assert metrics["cohort"]["labeled_tiles"] == 6 * 30
    assert metrics["recipes"]["weno"]["instances"]["evidence"]["froc"]["slides"] == 2 * 6


def test_one_class_among_the_test_slides(run):
    relabel(run, dict.fromkeys(run.folds[0].test, "normal"))
    metrics = evaluated(run, [run.predict("weno", fold=fold) for fold in (0, 1)])
    teacher = metrics["recipes"]["weno"]["scores"]["teacher"]
    assert teacher["pooled"]["roc_auc"]["reason"] == "no positives among 18"
    assert teacher["pooled"]["specificity"]["estimate"] is not None
    assert teacher["curves"]["pr"]["reason"] == "no positives among 18"
    assert teacher["calibration"]["before"]["brier"]["estimate"] is not None
    assert teacher["calibration"]["before"]["slope"]["reason"] == "no positives among 18"
    assert teacher["decision_curve"]["low"] is None
    assert teacher["operating_points"][0]["sensitivity"]["reason"] == "no positive slides"


def test_scores_that_are_no_numbers_are_told_and_not_left_out(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    victim = run.folds[1].test[0]
    change(
        folders[1],
        lambda row: row._replace(teacher_probability=math.nan) if row.slide_id == victim else row,
    )
    metrics = evaluated(run, folders)
    teacher = metrics["recipes"]["weno"]["scores"]["teacher"]
    told = f"1 of 15 scores are not finite (first: slide {victim})"
    assert teacher["pooled"]["roc_auc"]["reason"] == told
    assert teacher["pooled"]["sensitivity"]["estimate"] is None
    assert teacher["per_fold"][0]["roc_auc"]["value"] is not None
    assert teacher["curves"]["roc"]["reason"] == teacher["calibration"]["before"]["reason"] == told
    assert metrics["recipes"]["weno"]["scores"]["student"]["pooled"]["roc_auc"]["estimate"] is not None
    assert metrics["recipes"]["weno"]["last"]["scores"]["teacher"]["pooled"]["roc_auc"]["reason"] == told


def test_no_validation_slides_leave_the_checkpoints_threshold(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    change(folders[0], lambda row: None if row.part == "val" else row)
    change(folders[1], lambda row: None if (row.part, row.label) == ("val", "tumor") else row)
    teacher = evaluated(run, folders)["recipes"]["weno"]["scores"]["teacher"]
    youden, _, _, checkpoint = teacher["operating_points"]
    assert youden["reason"] == "seed 0, fold 0: no validation slides with a label"
    assert youden["thresholds"][1]["reason"] == "no positives among 3 validation slides"
    assert checkpoint["sensitivity"]["estimate"] == teacher["pooled"]["sensitivity"]["estimate"]
    assert checkpoint["specificity"] == teacher["pooled"]["specificity"]
    assert teacher["calibration"]["after"]["reason"].startswith("seed 0, fold 0: no validation slides")
    assert teacher["calibration"]["before"]["ece"]["estimate"] is not None


def test_features_without_positions_have_no_froc(run):
    for index, row in enumerate(run.rows[:-1]):
        file = features_of(row, index, tile_level0_px=0.0)
        write_features(run.root / "features" / f"{row.slide_id}.h5", file)
    metrics = evaluated(run, [run.predict("abmil", fold=fold) for fold in (0, 1)])
    evidence = metrics["recipes"]["abmil"]["instances"]["evidence"]
    assert evidence["pooled"]["roc_auc"]["estimate"] is not None
    assert evidence["froc"]["reason"].endswith("its features came without positions or tile sizes")
    assert (evidence["froc"]["sensitivity"], evidence["froc"]["score"]["estimate"]) == ([], None)


def test_without_annotations_tiles_are_neither_kept_of_the_last_epoch_nor_read(run):
    rows = tuple(row._replace(annotation=None) for row in run.manifest.rows)
    run.manifest = Manifest(rows, run.classes)
    for index, row in enumerate(rows[:-1]):
        unknown = features_of(row, index)._replace(tile_labels=np.full(30, -1, dtype=np.int8))
        write_features(run.root / "features" / f"{row.slide_id}.h5", unknown)
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    assert (folders[0] / "tiles").is_dir()
    assert not (folders[0] / "last" / "tiles").exists()
    for path in folders[0].glob("tiles/*.csv"):
        path.write_text("damaged; only the page's gallery would read it")
    metrics = run.evaluate(folders)
    recipe = metrics["recipes"]["weno"]
    assert (recipe["instances"], recipe["last"]["instances"]) == ({}, {})
    assert (metrics["cohort"]["labeled_tiles"], metrics["cohort"]["positive_tiles"]) == (0, 0)
    assert recipe["last"]["scores"]["student"]["pooled"]["roc_auc"]["estimate"] is not None


def test_without_annotations_the_reason_for_no_tile_measure_is_told(run):
    run.manifest = Manifest(tuple(row._replace(annotation=None) for row in run.rows), run.classes)
    recipe = evaluated(run, [run.predict("abmil", fold=fold) for fold in (0, 1)])["recipes"]["abmil"]
    assert recipe["instances_reason"] == "the manifest names no annotation, so no tile has a label"


def evaluate_groups(run, folders, subgroups):
    value = {"evaluate": {"bootstrap_samples": 100, "subgroups": subgroups}}
    return run_evaluate(
        run.manifest,
        features_dir=run.root / "features",
        splits_path=run.root / "splits.csv",
        status_path=run.root / "status.csv",
        prediction_dirs=folders,
        out_dir=run.root / "evaluation",
        settings=parse_settings(value, where="test"),
    )


def test_subgroups_of_site_scanner_and_manifest_columns(run):
    folders = [run.predict("abmil", fold=fold) for fold in (0, 1)]
    rows = [
        row._replace(
            site="north" if index < 16 else "south",
            extra=(("stain batch", str(index % 2)), ("id", str(index))),
        )
        for index, row in enumerate(run.rows)
    ]
    run.manifest = Manifest(tuple(rows), run.classes)
    facts = {"vendor": "aperio", "scanner": ""}
    for index, row in enumerate(rows[:3]):
        write_features(run.root / "features" / f"{row.slide_id}.h5", features_of(row, index, facts=facts))
    score = evaluate_groups(run, folders, None)["recipes"]["abmil"]["scores"]["teacher"]
    found = {(one["column"], one["value"]): one["slides"] for one in score["subgroups"]}
    # tested: s0 to s5 and s14 to s22; one scanner alone tells nothing apart, 24 ids are too many
    assert found == {
        ("site", "north"): 8,
        ("site", "south"): 7,
        ("stain batch", "0"): 8,
        ("stain batch", "1"): 7,
    }
    asked = evaluate_groups(run, folders, ["scanner"])["recipes"]["abmil"]["scores"]["teacher"]["subgroups"]
    assert [(one["value"], one["slides"]) for one in asked] == [("", 12), ("aperio", 3)]
    assert evaluate_groups(run, folders, [])["recipes"]["abmil"]["scores"]["teacher"]["subgroups"] == []
    with pytest.raises(BadInput, match=r"evaluate\.subgroups: unknown column 'stain'.*'stain batch'"):
        evaluate_groups(run, folders, ["stain"])
