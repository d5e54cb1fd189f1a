"""What `infer` wrote is shown with its scores; the slide's file is told apart, for no answer holds a path."""

from pathlib import Path

import pytest
from viewed_runs import no_nan, open_viewer, write_answer, write_manifest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed


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


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"classes": []}, "classes: List should have at least 2"),
        ({"models": []}, "models: List should have at least 1"),
        ({"slide": {"bounds": [0, 0]}}, r"slide\.bounds: List should have at least 4"),
        ({"slide": None}, "slide: "),
        ({"thresholds": {"teacher": {"value": "x"}}}, r"thresholds\.teacher\.value: "),
        ({"probabilities": {"teacher": 0.5}}, r"probabilities\.teacher: "),
        ({"path": "/home/doe"}, "path: Extra inputs are not permitted"),
    ],
)
def test_an_answer_of_another_structure_is_told_by_its_member(tmp_path: Path, members, told: str) -> None:
    """Its hash is right all the same: whoever made it meant it so."""
    write_answer(tmp_path, "P1")
    record = read_json(tmp_path / "prediction.json", remake="")
    publish_json(tmp_path / "prediction.json", {**record, **members})
    with pytest.raises(BadInput, match=rf"prediction\.json: {told}.*make it anew with: wsi-kd infer"):
        collect_viewed(tmp_path, Sources())


def test_thresholds_that_an_answer_lacks_are_unknown(tmp_path: Path) -> None:
    write_answer(tmp_path, "P1", thresholds={})
    (answer,) = collect_viewed(tmp_path, Sources()).slides[0].answers
    assert (answer.thresholds, answer.uncertain) == ({"teacher": None, "student": None}, None)
