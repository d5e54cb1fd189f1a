"""What `infer` wrote is shown with its scores; the slide's file is told apart, for no answer holds a path."""

from pathlib import Path

import pytest
from viewed_runs import CLASSES, no_nan, open_viewer, tiles_at, write_manifest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import write_tiles_csv
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed


def model(fold: int) -> dict:
    return {"recipe": "weno", "seed": 0, "fold": fold}


def write_answer(folder: Path, slide_id: str, *, models=1, classes=CLASSES, **members) -> None:
    """A prediction.json as infer writes it, of a slide tumor.tiff, and its tiles."""
    probabilities = {score: dict(zip(classes, (0.25, 0.75), strict=True)) for score in ("teacher", "student")}
    thresholds = {"teacher": {"value": 0.5}, "student": {"value": 0.9}}
    record = {
        **stamp("prediction", {"slides": {"background": "white", "color": "as_stored"}}),
        "slide_id": slide_id,
        "status": "ok",
        "reason": "",
        "step": "infer",
        "classes": list(classes),
        "probabilities": probabilities,
        "calls": {"teacher": classes[1], "student": classes[0]},
        "thresholds": thresholds,
        "uncertainty": {"models": models, "spread": {}, "meaning": ""},
        "out_of_distribution": {"flag": True},
        "slide": {"slide_file": "tumor.tiff", "slide_mpp": 0.5},
        "models": [model(fold) for fold in range(models)],
        **members,
    }
    publish_json(folder / "prediction.json", record)
    table = tiles_at([(0, 0)], student=[0.75])
    write_tiles_csv(folder / "tiles.csv", table, classes=classes, header=stamp("tile_scores", {}))


def test_one_slide_with_its_file(tmp_path: Path, synthetic_slide) -> None:
    write_answer(tmp_path / "out", "P1")
    viewed = collect_viewed(tmp_path / "out", Sources(slides=(synthetic_slide("tumor").path,)))
    assert (viewed.title, viewed.background, viewed.uncertainty.low_is_uncertain) == ("out", "white", True)
    client = open_viewer(viewed)
    (listed,) = client.get("/api/slides").json()
    (answer,) = listed["models"]
    assert (listed["slide_id"], listed["label"], answer["right"]) == ("P1", "", None)
    assert (answer["teacher"], answer["teacher_call"], answer["student_call"]) == (0.75, "tumor", "normal")
    assert answer["uncertain"] == pytest.approx((0.9 - 0.75) / 0.9)
    assert answer["thresholds"] == {"teacher": 0.5, "student": 0.9}
    assert answer["out_of_distribution"] is True
    assert client.get("/api/slides/0").json()["readable"] is True
    scores = client.get("/api/slides/0/scores", params={"model": "weno/seed0/fold0"}).json()
    assert scores["mappings"][0]["values"] == [0.75]


def test_a_batch_with_labels_of_a_manifest_and_a_slide_that_failed(tmp_path: Path, synthetic_slide) -> None:
    write_answer(tmp_path / "out" / "P1", "P1")
    write_answer(
        *(tmp_path / "out" / "P2", "P2"),
        status="unreadable",
        reason="gone",
        step="mask",
        probabilities={},
        calls={},
        out_of_distribution=None,
        slide={},
    )
    (tmp_path / "out" / "P2" / "tiles.csv").unlink()
    lines = [("P1", str(synthetic_slide("tumor").path), "normal", "")]
    manifest = write_manifest(tmp_path / "slides.csv", lines)
    viewed = collect_viewed(tmp_path / "out", Sources(manifest=manifest))
    first, second = viewed.slides
    assert (first.label, first.answers[0].right) == ("normal", True)  # judged by the student
    assert (second.status, second.reason, second.step, second.answers) == ("unreadable", "gone", "mask", ())
    client = open_viewer(viewed)
    assert no_nan(client.get("/api/slides").json())
    assert "--manifest" in client.get("/api/slides/1").json()["why_not"]


def test_the_spread_of_an_ensemble_is_its_uncertainty(tmp_path: Path) -> None:
    spread = {score: {"sd": 0.12, "low": 0.5, "high": 0.9} for score in ("teacher", "student")}
    write_answer(tmp_path, "P1", models=5, uncertainty={"models": 5, "spread": spread, "meaning": ""})
    viewed = collect_viewed(tmp_path, Sources())
    assert [key.key for key in viewed.models] == ["ensemble of 5 models"]
    assert viewed.slides[0].answers[0].uncertain == 0.12
    answer = open_viewer(viewed).get("/api/run").json()
    assert answer["uncertainty"]["low_is_uncertain"] is False
    assert answer["models"] == [{"key": "ensemble of 5 models", "recipe": "weno", "seed": None, "fold": None}]


def test_answers_on_other_classes_are_not_mixed(tmp_path: Path) -> None:
    write_answer(tmp_path / "a", "a")
    write_answer(tmp_path / "b", "b", classes=("low", "high"))
    with pytest.raises(BadInput, match="view answers of one model at a time"):
        collect_viewed(tmp_path, Sources())
