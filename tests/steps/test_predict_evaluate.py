"""predict and evaluate on feature files made here: no slide, no training."""

import csv
import json

import numpy as np
import pytest
from scored_runs import CLASSES, LIMIT, Run, features_of
from sklearn.metrics import roc_auc_score

from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.evaluation.summary import FLAT, summary_lines
from wsi_kd.features.store import read_features, write_features
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.tables import read_predictions, read_tiles_csv
from wsi_kd.settings.all import Settings
from wsi_kd.steps.predict import run_predict
from wsi_kd.training.checkpoint import load_model


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_tables_hold_what_predict_bag_says(run):
    out_dir = run.predict("weno", fold=0)
    table = read_predictions(out_dir / "predictions.csv")
    assert [row.slide_id for row in table.rows] == [*sorted(run.folds[0].val), *sorted(run.folds[0].test)]
    assert {row.part for row in table.rows[:6]} == {"val"}
    loaded = load_model(run.root / "models/weno/seed0/fold0")
    for row in table.rows:
        slide = features_of(run.rows[int(row.slide_id[1:])], int(row.slide_id[1:]))
        direct = predict_bag(loaded.model, slide.features, student_pooling="topk", top_k=3, device="cpu")
        assert row.class_probabilities == pytest.approx(tuple(direct.teacher_probability), abs=1e-12)
        assert row.student_probability == pytest.approx(direct.student_probability, abs=1e-12)
        assert row.student_max_probability == pytest.approx(direct.student.by_max[1], abs=1e-12)
        assert row.student_topk_probability == row.student_probability
        assert row.teacher_call == CLASSES[int(row.teacher_probability >= 0.45)]
        assert row.student_call == CLASSES[int(row.student_probability >= 0.5)]
        if row.part == "test":
            tiles = read_tiles_csv(out_dir / "tiles" / f"{row.slide_id}.csv")
            assert np.array_equal(tiles.coords, slide.coords)
            assert np.allclose(tiles.attention, direct.attention, atol=1e-12)
            assert np.allclose(tiles.student_probability, direct.student.tiles, atol=1e-12)
    assert {path.stem for path in (out_dir / "tiles").glob("*.csv")} == set(run.folds[0].test)


def test_the_last_epochs_model_is_scored_beside_the_selected_one(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    table = read_predictions(folders[0] / "last" / "predictions.csv")
    assert table.header["epoch"] == 9
    loaded = load_model(run.root / "models/weno/seed0/fold0", name="last")
    row = table.rows[-1]
    slide = features_of(run.rows[int(row.slide_id[1:])], int(row.slide_id[1:]))
    direct = predict_bag(loaded.model, slide.features, student_pooling="topk", top_k=3, device="cpu")
    assert row.student_probability == pytest.approx(direct.student_probability, abs=1e-12)
    recipe = run.evaluate(folders)["recipes"]["weno"]
    selected, last = recipe["scores"]["student"], recipe["last"]["scores"]["student"]
    truth, scores = zip(
        *((row.label == "tumor", row.student_probability) for row in table.rows if row.part == "test"),
        strict=True,
    )
    assert last["per_fold"][0]["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, scores))
    assert last["pooled"]["roc_auc"] != selected["pooled"]["roc_auc"]
    assert set(recipe["last"]["instances"]) == {"attention", "attention_evidence", "evidence", "student"}


def test_slides_beyond_the_models_limit_are_flagged(run):
    distances = {row.slide_id: row.feature_distance for row in _predicted(run, 1e6)}
    assert all(value > 0.0 for value in distances.values())
    middle = float(np.median(list(distances.values())))
    flagged = {row.slide_id for row in _predicted(run, middle) if row.out_of_distribution}
    assert flagged == {slide_id for slide_id, value in distances.items() if value > middle}
    assert 0 < len(flagged) < len(distances)


def _predicted(run, limit):
    told = {**LIMIT._asdict(), "limit": limit}
    run_predict(
        run.manifest,
        features_dir=run.root / "features",
        splits_path=run.root / "splits.csv",
        model_dir=run.save_model("weno", fold=0, out_of_distribution=told),
        fold=0,
        out_dir=run.root / "limited",
        settings=Settings(),
    )
    table = read_predictions(run.root / "limited" / "predictions.csv")
    assert table.header["out_of_distribution"] == told
    return table.rows


def test_predict_refuses_a_model_of_another_fold(run):
    model_dir = run.save_model("weno", fold=1)
    with pytest.raises(BadInput, match="trained on fold 1, asked to predict fold 0: test slides would leak"):
        run_predict(
            run.manifest,
            features_dir=run.root / "features",
            splits_path=run.root / "splits.csv",
            model_dir=model_dir,
            fold=0,
            out_dir=run.root / "p",
            settings=Settings(),
        )
    assert not (run.root / "p").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("weights_hash", "other"), ("encoder", "resnet"), ("feature_dim", 5)]
)
def test_predict_refuses_features_of_another_encoder(run, key, value):
    slide_id = run.folds[0].test[0]
    row = run.manifest.rows[int(slide_id[1:])]
    write_features(run.root / "features" / f"{slide_id}.h5", features_of(row, 0, **{key: value}))
    with pytest.raises(BadInput, match=f"{slide_id}: the features have {key} .*{value}"):
        run.predict("weno", fold=0)


def test_metrics_cover_every_recipe_score_and_slide(run):
    folders = [run.predict(recipe, fold=fold) for recipe in ("abmil", "weno") for fold in (0, 1)]
    metrics = run.evaluate(folders)
    assert read_json(run.root / "evaluation/metrics.json", remake="") == json.loads(json.dumps(metrics))
    assert list(metrics["recipes"]) == ["abmil", "weno"]
    assert set(metrics["recipes"]["abmil"]["scores"]) == {"teacher"}
    poolings = {"student_max", "student_topk"}
    assert set(metrics["recipes"]["weno"]["scores"]) == {"teacher", "student", *poolings}
    assert set(metrics["recipes"]["abmil"]["instances"]) == {
        "attention",
        "attention_evidence",
        "evidence",
    }
    assert set(metrics["recipes"]["weno"]["instances"]) == {
        "attention",
        "attention_evidence",
        "evidence",
        "student",
    }
    assert set(metrics["baselines"]) == {"bag_mean", "mean_color"}
    cohort = metrics["cohort"]
    assert (cohort["slides"], cohort["cases"]) == (24, 22)
    assert cohort["flow"] == {"ok": 23, "empty": 1}
    assert cohort["failed"] == [{"slide_id": "s23", "status": "empty", "reason": "no tissue", "step": "mask"}]
    assert cohort["slides_per_class"] == {"normal": 12, "tumor": 12}
    assert cohort["labeled_tiles"] == 15 * 30
    teacher = metrics["recipes"]["weno"]["scores"]["teacher"]
    assert [record["slides"] for record in teacher["per_fold"]] == [9, 6]
    assert teacher["per_seed"][0]["slides"] == 15
    assert metrics["recipes"]["weno"]["models"][1]["thresholds"]["teacher"] == 0.45
    assert cohort["folds"][0] == {
        "fold": 0,
        "part": "train",
        "slides": 8,
        "cases": 6,
        "slides_per_class": {"normal": 4, "tumor": 4},
    }
    lines = summary_lines(metrics, report_path=run.root / "report.html")
    assert len(lines) == 1 + (1 + 3) + (3 + 4) + 2 + (FLAT in lines) + 2


def test_pooled_auc_is_that_of_the_pooled_table(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    metrics = run.evaluate(folders)
    with (run.root / "evaluation/predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 15
    positive = [float(row["student_probability"]) for row in rows if row["label"] == "tumor"]
    negative = [float(row["student_probability"]) for row in rows if row["label"] == "normal"]
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    expected = wins / (len(positive) * len(negative))
    assert metrics["recipes"]["weno"]["scores"]["student"]["pooled"]["roc_auc"]["estimate"] == pytest.approx(
        expected
    )


def test_tiles_of_negative_slides_count_as_negative_without_annotation(run):
    metrics = run.evaluate([run.predict("abmil", fold=fold) for fold in (0, 1)])
    record = metrics["recipes"]["abmil"]["instances"]["evidence"]["per_seed"][0]
    truth = [int((features_of(run.rows[i], i).tile_labels == 1).sum()) for i in [*range(14, 23), *range(6)]]
    assert (record["tiles"], record["positives"]) == (450, sum(truth))
    assert metrics["cohort"]["positive_tiles"] == sum(truth)


def test_mean_baseline_sees_what_the_mean_shows(run):
    # tumor tiles are shifted by 2 in 30 % of the tiles: 0.6 in the mean of 30 tiles, whose deviation is 0.2
    metrics = run.evaluate([run.predict("abmil", fold=fold) for fold in (0, 1)])
    assert metrics["baselines"]["bag_mean"]["pooled"]["roc_auc"]["estimate"] > 0.9


def test_same_input_gives_the_same_file(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    run.evaluate(folders)
    first = (run.root / "evaluation/metrics.json").read_bytes()
    run.evaluate(folders)
    assert (run.root / "evaluation/metrics.json").read_bytes() == first


def test_incomplete_repeated_or_stale_predictions_are_refused(run):
    first, second = (run.predict("weno", fold=fold) for fold in (0, 1))
    with pytest.raises(BadInput, match="no predictions to evaluate"):
        run.evaluate([])
    with pytest.raises(BadInput, match="given twice"):
        run.evaluate([first, first, second])
    with pytest.raises(BadInput, match="recipe abmil, seed 0: no predictions of fold 1"):
        run.evaluate([first, second, run.predict("abmil", fold=0)])
    with pytest.raises(BadInput, match=r"predictions\.csv.*no such file"):
        run.evaluate([run.root / "nowhere"])
    run.folds[1] = Fold(run.folds[1].train, run.folds[1].val, run.folds[1].test[:-1])
    run.write_splits()
    with pytest.raises(BadInput, match=r"fold 1: its test slides are not those of splits\.csv"):
        run.evaluate([first, second])


def test_a_damaged_tile_table_is_refused_where_it_is_measured(run):
    folders = [run.predict("weno", fold=fold) for fold in (0, 1)]
    path = folders[1] / "last" / "tiles" / f"{run.folds[1].test[0]}.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    with pytest.raises(BadInput, match=r"last/tiles/.*sha256 differs.*wsi-kd predict"):
        run.evaluate(folders)


def test_every_feature_file_is_read_once_for_both_models(run, monkeypatch):
    read = []

    def counting(path):
        read.append(path.stem)
        return read_features(path)

    monkeypatch.setattr("wsi_kd.steps.predict.read_features", counting)
    run.predict("weno", fold=0)
    assert sorted(read) == sorted((*run.folds[0].val, *run.folds[0].test))


def test_recipes_are_compared_on_the_table_of_predictions(run):
    folders = [run.predict(recipe, fold=fold) for recipe in ("abmil", "weno") for fold in (0, 1)]
    compared = run.evaluate(folders)["comparisons"]
    assert (compared["baseline"], compared["reason"]) == ("abmil", "")
    assert [one["score"] for one in compared["slides"]] == [
        "teacher",
        "student",
        "student_max",
        "student_topk",
    ]
    with (run.root / "evaluation/predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    areas = [
        roc_auc_score(
            [row["label"] == "tumor" for row in rows if row["recipe"] == recipe],
            [float(row[column]) for row in rows if row["recipe"] == recipe],
        )
        for recipe, column in (("weno", "student_max_probability"), ("abmil", "teacher_probability"))
    ]
    area = compared["slides"][2]["metrics"]["roc_auc"]
    assert area["estimate"] == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert area["low"] < area["estimate"] < area["high"]
    assert 0 < area["p_value"] <= 1


def test_three_classes_go_from_predict_to_metrics(tmp_path):
    run = Run(tmp_path, classes=("normal", "low", "high"))
    folders = [run.predict(recipe, fold=fold) for recipe in ("abmil", "weno") for fold in (0, 1)]
    rows = [
        row
        for folder in folders[2:]
        for row in read_predictions(folder / "predictions.csv").rows
        if row.part == "test"
    ]
    metrics = run.evaluate(folders)
    recipe = metrics["recipes"]["weno"]
    labels = np.array([run.classes.index(row.label) for row in rows])
    for score in ("student", "student_max", "student_topk"):
        probabilities = np.array([getattr(row, f"{score}_class_probabilities") for row in rows])
        expected = np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in range(3)])
        assert recipe["scores"][score]["pooled"]["roc_auc"]["estimate"] == pytest.approx(expected), score
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    tiles = [
        read_tiles_csv(run.root / f"predictions/weno/seed0/fold{fold}/tiles/{row.slide_id}.csv")
        for fold in (0, 1)
        for row in rows
        if row.slide_id in run.folds[fold].test
    ]
    largest = np.concatenate([table.student_probability.max(axis=1) for table in tiles])
    truth = np.concatenate([table.tile_labels == 1 for table in tiles])
    found = recipe["instances"]["student"]["pooled"]["roc_auc"]["estimate"]
    assert found == pytest.approx(roc_auc_score(truth, largest))
    compared = metrics["comparisons"]["slides"][0]["metrics"]["roc_auc"]
    assert compared["test"] == "bootstrap"
    assert compared["p_value"] is not None
