"""The viewer's answers about a run: numbers, places, faults."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from viewed_runs import CLASSES, HOSTILE, STUDENT, TEACHER, ask_raw, no_nan, open_viewer, places

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed
from wsi_kd.steps.viewed_run import view_run
from wsi_kd.viewer import opened
from wsi_kd.viewer.desk import Desk


def test_the_run_is_described(client) -> None:
    answer = client.get("/api/run").json()
    assert answer["title"] == HOSTILE
    assert answer["classes"] == list(CLASSES)
    assert answer["positive"] == ["tumor"]
    assert answer["models"] == [
        {"key": TEACHER, "recipe": "abmil", "seed": 0, "fold": 0},
        {"key": STUDENT, "recipe": "weno", "seed": 0, "fold": 0},
    ]
    assert (answer["colormap"][0], answer["colormap"][255], len(answer["colormap"])) == (
        "#440154",
        "#fde725",
        256,
    )
    assert "not for diagnosis" in answer["research_only"]
    assert answer["uncertainty"]["low_is_uncertain"] is True
    assert answer["report"] is False


def test_every_slide_is_listed_with_its_status_and_what_models_say(client) -> None:
    answer = client.get("/api/slides").json()
    assert [slide["slide_id"] for slide in answer] == [
        *("tumor", "bounds", "damaged", "lost", "failed", "hostile"),
        "left",
    ]
    assert [slide["index"] for slide in answer] == list(range(7))
    by_id = {slide["slide_id"]: slide for slide in answer}
    failed = by_id["failed"]
    assert (failed["status"], failed["reason"], failed["step"]) == ("empty", HOSTILE, "mask")
    assert by_id["bounds"]["status"] == "not run"
    val, test = by_id["tumor"]["models"]
    assert (val["part"], val["right"], val["student"], val["thresholds"]) == (
        *("val", False, None),
        {"teacher": 0.5, "student": None},
    )
    assert val["uncertain"] == pytest.approx(0.6)  # (0.5 - 0.2) / 0.5
    assert (test["part"], test["right"], test["student_call"]) == ("test", True, "tumor")
    assert test["uncertain"] == pytest.approx(0.5)
    assert test["out_of_distribution"] is True
    nan = by_id["bounds"]["models"][0]
    assert (nan["teacher"], nan["student"], nan["right"]) == (None, 0.45, False)
    assert no_nan(answer)


def test_text_from_outside_is_json_and_nothing_else(client) -> None:
    for address in ("/api/run", "/api/slides"):
        answer = client.get(address)
        assert answer.headers["content-type"] == "application/json"
        assert b"<" not in answer.content
        assert answer.content.isascii()


def test_a_slide_is_described_in_the_frame_of_its_bounds(client) -> None:
    answer = client.get(f"/api/slides/{places(client)['bounds']}").json()
    assert (answer["width"], answer["height"], answer["mpp"]) == (1024, 768, pytest.approx(0.5))
    assert (answer["min_level"], answer["max_level"], answer["full_level"]) == (0, 10, 10)
    assert (answer["tile_size"], answer["overlap"]) == (254, 1)
    assert answer["models"] == [STUDENT]
    assert (answer["annotations"], answer["label_image"]) == (True, False)
    assert "associated" not in answer


def test_scores_are_counted_from_the_corner_of_the_bounds(client) -> None:
    address = f"/api/slides/{places(client)['bounds']}/scores"
    answer = client.get(address, params={"model": STUDENT}).json()
    assert (answer["tiles"], answer["edge"], answer["x"], answer["y"]) == (2, 256.0, [0, 256], [0, 256])
    by_key = {mapping["key"]: mapping for mapping in answer["mappings"]}
    student = by_key["student_probability"]
    assert (student["values"], student["vmin"], student["vmax"]) == ([0.25, 0.5], 0.0, 1.0)
    assert by_key["teacher_evidence"]["values"] == [0.1, 0.2]
    assert by_key["attention_softmax"]["values"] == [1.0, 1.0]
    assert answer["tile_label"] is None


def test_scores_agree_with_the_table_and_nan_is_null(client) -> None:
    address = f"/api/slides/{places(client)['tumor']}/scores"
    answer = client.get(address, params={"model": STUDENT}).json()
    nan, third = answer["mappings"][0]["values"]
    assert nan is None
    assert third == pytest.approx(1 / 3, abs=1e-8)
    assert answer["tile_label"] == [0, 1]
    assert no_nan(answer)


@pytest.mark.parametrize("model", ["", "abmil/seed0/fold0", "../../weno", "weno/seed0/fold1"])
def test_no_scores_of_a_model_that_has_none(client, model: str) -> None:
    answer = client.get(f"/api/slides/{places(client)['tumor']}/scores", params={"model": model})
    assert (answer.status_code, answer.text.count("\n")) == (404, 1)


@pytest.mark.parametrize(
    ("slide_id", "why"),
    [("lost", "lost.svs: cannot be opened (No such file or directory)"), ("left", "--manifest slides.csv")],
)
def test_a_slide_without_its_file_is_told_so(client, run: Path, slide_id: str, why: str) -> None:
    index = places(client)[slide_id]
    answer = client.get(f"/api/slides/{index}").json()
    assert answer["readable"] is False
    assert why in answer["why_not"]
    assert str(run) not in answer["why_not"]
    assert client.get(f"/dzi/{index}/0/0_0.jpg").status_code in {404, 409}
    if slide_id == "lost":
        scores = client.get(f"/api/slides/{index}/scores", params={"model": STUDENT})
        assert scores.status_code == 409


def test_annotations_are_counted_from_the_corner_of_the_bounds(client, synthetic_slide) -> None:
    """The drawn slide's GeoJSON is in QuPath's frame, which is this one: there and back changes nothing."""
    answer = client.get(f"/api/slides/{places(client)['bounds']}/annotations").json()
    drawn = json.loads(synthetic_slide("bounds").annotation.read_text())
    (feature,) = answer["features"]
    assert feature["properties"]["classification"] == {"name": "Tumor", "color": [200, 0, 0]}
    ring, expected = (np.array(one["geometry"]["coordinates"][0]) for one in (feature, drawn["features"][0]))
    assert ring.shape == expected.shape
    assert np.abs(ring - expected).max() < 1e-9


def test_annotations_that_are_absent_or_gone(client, run: Path) -> None:
    absent = client.get(f"/api/slides/{places(client)['lost']}/annotations")
    assert (absent.status_code, "names no annotation" in absent.text) == (404, True)
    gone = client.get(f"/api/slides/{places(client)['damaged']}/annotations")
    assert (gone.status_code, "gone.geojson" in gone.text, str(run) in gone.text) == (409, True, False)


def test_a_tile_is_the_slide(client, synthetic_slide) -> None:
    index = places(client)["bounds"]
    answer = client.get(f"/dzi/{index}/10/1_0.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert "x-wsi-kd-damaged" not in answer.headers
    tile = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    with open_slide(synthetic_slide("bounds").path, background="metadata") as reader:
        pixels = reader.read_region(
            x_level0_px=2048 + 253, y_level0_px=1024, level=0, width_px=256, height_px=255
        )
    assert tile.shape == pixels.shape
    assert np.abs(tile - pixels).mean() < 8  # JPEG
    assert client.get(f"/dzi/{index}/10/1_0.jpg").content == answer.content  # from the cache


def test_a_slide_that_was_replaced_shows_its_new_pixels(tmp_path: Path) -> None:
    """The former file's tiles are in the cache, and must not be mixed with the new one's."""
    path = tmp_path / "a.png"
    shown = []
    for value in (20, 220):
        Image.new("RGB", (40, 30), (value, value, value)).save(tmp_path / "next.png")
        (tmp_path / "next.png").replace(path)
        client = shown[0][0] if shown else open_viewer(collect_viewed(path, Sources()))
        tile = Image.open(io.BytesIO(client.get("/dzi/0/6/0_0.jpg").content))
        shown.append((client, tile.getpixel((5, 5))[0]))
    assert [pixel for _, pixel in shown] == [20, 220]


def test_a_damaged_tile_is_gray_and_says_why(client) -> None:
    index = places(client)["damaged"]
    answer = client.get(f"/dzi/{index}/10/1_1.jpg")
    assert answer.status_code == 200
    assert "damaged" in answer.headers["x-wsi-kd-damaged"]
    tile = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (tile.shape, int(tile.min()), int(tile.max())) == ((256, 256, 3), 128, 128)
    whole = client.get(f"/dzi/{index}/10/3_2.jpg")
    assert (whole.status_code, "x-wsi-kd-damaged" in whole.headers) == (200, False)


def test_a_damaged_table_is_told_in_one_line(run: Path) -> None:
    table = run / "predictions" / STUDENT / "tiles" / "tumor.csv"
    kept = table.read_bytes()
    table.write_bytes(kept.replace(b"0.1", b"0.7", 1))
    try:
        sheet = read_rows(run / "slides.csv", slides_dir=None)
        client = open_viewer(view_run(run, sheet=sheet, title=""))
        answer = client.get(f"/api/slides/{places(client)['tumor']}/scores", params={"model": STUDENT})
    finally:
        table.write_bytes(kept)
    assert (answer.status_code, answer.text.count("\n")) == (409, 1)
    assert "sha256 differs" in answer.text
    assert str(run) not in answer.text


@pytest.mark.parametrize("target", ["/dzi/0/0/0_0.jpg", "/api/slides/0", "/api/slides/0/scores?model=x"])
def test_nothing_is_read_for_a_page_that_has_moved_on(client, monkeypatch, target: str) -> None:
    read = []
    for name in ("tile", "slide", "scores"):
        monkeypatch.setattr(Desk, name, lambda *_, **__: read.append(1))
    status, _, body = ask_raw(client, target, gone=True)
    assert (status, body, read) == (499, b"the page has moved on\n", [])


def test_slides_are_closed_when_the_viewer_ends(client, monkeypatch) -> None:
    closed = []
    monkeypatch.setattr(Desk, "close", lambda _: closed.append(1))
    with client:
        assert client.get("/api/run").status_code == 200
        assert closed == []
    assert closed == [1]


def test_images_of_the_glass_are_not_even_looked_for(client, monkeypatch) -> None:
    monkeypatch.setattr(opened, "associated_names", lambda _: ("label",))
    answer = client.get("/api/slides/0").json()
    assert (answer["readable"], answer["label_image"], "associated" in answer) == (True, False, False)
    refused = client.get("/api/slides/0/associated/label.jpg")
    assert (refused.status_code, "--show-labels" in refused.text) == (404, True)


def test_damage_is_told_without_the_slides_folder(run: Path, client, monkeypatch) -> None:
    path = next(row.path for row in read_rows(run / "slides.csv", slides_dir=None))

    def fail(*_: object) -> None:
        raise unreadable(f"{path}: torn")

    monkeypatch.setattr(opened, "read_zoom_tile", fail)
    answer = client.get("/dzi/0/5/0_0.jpg")
    assert (answer.status_code, answer.headers["x-wsi-kd-damaged"]) == (200, f"{path.name}: torn")
