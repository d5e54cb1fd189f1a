"""The report step on a run's folder: real files in, one page out; slides that are gone are no error."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from report_runs import RunMaker
from synthetic import draw_slide

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, publish_table, read_json
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import TileTable, write_predictions, write_tiles_csv
from wsi_kd.report.canvas import margins
from wsi_kd.report.heatmap import OPACITY
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.report import run_report
from wsi_kd.steps.status import write_status

MAKER = RunMaker(slides=12)
SETTINGS = parse_settings(
    {"run": {"title": "Step <test>"}, "report": {"gallery_slides": 2, "heatmap_px": 200}}, where="test"
)
SECTIONS = {
    name: getattr(Settings(), name).model_dump(mode="json") for name in ("slides", "mask", "tile", "embed")
}
COORDS = np.array([[200, 300], [456, 300], [200, 556]], np.int64)


def write_run(root):
    models = MAKER.models()
    publish_json(root / "evaluation" / "metrics.json", MAKER.metrics(models))
    write_status(root / "status.csv", MAKER.statuses(), stamp("status", {}))
    split = {"split": Settings().split.model_dump(mode="json")}
    publish_table(root / "splits.csv", ["slide_id"], [["slide_0"]], stamp=stamp("splits", split))
    for model in models:
        place = f"{model.recipe}/seed{model.seed}/fold{model.fold}"
        write_model(root / "models" / place, model)
        write_scores(root / "predictions" / place, model)


def write_model(folder, model):
    train = {"train": {**Settings().train.model_dump(mode="json"), "recipes": [model.recipe]}}
    header = {**stamp("model", train), "recipe": model.recipe, "sections": SECTIONS}
    publish_json(folder / "model.json", header)
    history = {**model.history, "val_student_loss": [*[""] * 7, 0.5], "warning": ["", "guard", *[""] * 6]}
    rows = list(zip(*history.values(), strict=True))
    publish_table(folder / "history.csv", list(history), rows, stamp=stamp("history", train))


def write_scores(folder, model):
    thresholds = {"teacher": 0.5, "student": 0.4}
    facts = {"recipe": model.recipe, "seed": model.seed, "fold": model.fold, "thresholds": thresholds}
    header = {**stamp("predictions", {"predict": {"device": "auto"}}), **facts}
    validation = model.test[0]._replace(slide_id="a_validation_slide", part="val")
    write_predictions(
        folder / "predictions.csv", [validation, *model.test], classes=MAKER.classes, header=header
    )
    for row in model.test:
        student = None if row.student_probability is None else np.array([[0.1], [0.5], [0.9]])
        tiles = TileTable(
            COORDS,
            256.0,
            np.array([0.2, 0.3, 0.5]),
            None,
            np.array([[0.3], [0.4], [0.5]]),
            student,
            np.array([0, 0, 1], np.int8),
        )
        path = folder / "tiles" / f"{row.slide_id}.csv"
        write_tiles_csv(path, tiles, classes=MAKER.classes, header=stamp("tile_scores", {}))


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return draw_slide(tmp_path_factory.mktemp("slides"), "tumor").path


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_run(root)
    return root


@pytest.fixture
def run_folder(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))


@pytest.fixture(scope="module")
def page(finished_run, slide_path):
    return run_report(manifest(slide_path), results_dir=finished_run, settings=SETTINGS)


@pytest.fixture(scope="module")
def html(page):
    return page.read_text(encoding="utf-8")


def manifest(path, **other_paths):
    rows = [
        SlideRow(
            f"slide_{slide}",
            other_paths.get(f"slide_{slide}", path),
            MAKER.classes[slide % 2],
            f"case_{slide // 2}",
            "",
            None,
            None,
            "",
        )
        for slide in range(12)
    ]
    return Manifest(tuple(rows), tuple(MAKER.classes))


def pictures(html):
    encoded = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(part))) for part in encoded]


def test_the_page_and_its_numbers_are_written(page, html, finished_run, slide_path):
    assert page == finished_run / "report" / "index.html"
    assert sorted(file.name for file in page.parent.iterdir()) == ["index.html", "metrics.json"]
    remake = "wsi-kd report"
    metrics = read_json(finished_run / "evaluation" / "metrics.json", remake=remake)
    assert read_json(page.parent / "metrics.json", remake=remake) == metrics
    assert "<title>Step &lt;test&gt;</title>" in html
    auc = metrics["recipes"]["weno"]["scores"]["student"]["pooled"]["roc_auc"]["estimate"]
    assert f'data-number="{auc}">{auc:.3f}' in html
    assert "a_validation_slide" not in html
    assert str(finished_run) not in html
    assert str(slide_path.parent) not in html


def test_the_gallery_reads_the_slides_again_at_the_size_asked_for(html):
    drawn = pictures(html)
    assert len(drawn) == 2 * 3
    # 1024 x 768 px at heatmap_px 200 becomes 200 x 150, enlarged threefold to reach 480 px.
    around = margins((450, 600, 3))
    assert {image.size[0] for image in drawn} == {600 + 2 * around.side_px + around.bar_px}
    slide, student, _ = (np.asarray(image.convert("RGB")) / 255 for image in drawn[:3])
    # The first tile covers 200-456 of 1024 level-0 pixels across: 117-267 of 600 pixels of the image.
    inside = (around.title_px + 230, around.side_px + 190)
    gray = 0.35 + 0.65 * slide[inside] @ [0.299, 0.587, 0.114]
    expected = OPACITY * np.array(colormaps["viridis"](0.1)[:3]) + (1 - OPACITY) * gray
    np.testing.assert_allclose(student[inside], expected, atol=0.06)
    beside = student[around.title_px + 10, around.side_px + 20]
    assert np.ptp(beside) < 0.05


def test_the_settings_shown_are_those_recorded(html):
    listing = html.partition("Settings as the run")[2].partition("</pre>")[0]
    recorded = ("tile_mpp: 0.5", "folds: 5", "abmil:", "weno:", "bootstrap_samples: 100", "heatmap_px: 200")
    assert [line for line in recorded if line not in listing] == []


def test_folders_in_the_settings_are_cut_to_their_names(run_folder, slide_path):
    private = "/home/jane_doe/project_x"
    for path in (run_folder / "models").rglob("model.json"):
        header = read_json(path, remake="")
        header["sections"] = {**SECTIONS, "embed": {"weights": f"{private}/uni.safetensors"}}
        publish_json(path, header)
    given = {"split": {"given": f"{private}/splits", "folds": 5}}
    publish_table(run_folder / "splits.csv", ["slide_id"], [["slide_0"]], stamp=stamp("splits", given))
    told = run_report(manifest(slide_path), results_dir=run_folder, settings=SETTINGS).read_text()
    assert "weights: uni.safetensors" in told
    assert "given: splits" in told
    assert "jane_doe" not in told


def test_the_same_run_makes_the_same_bytes(page, html, finished_run, slide_path):
    again = run_report(manifest(slide_path), results_dir=finished_run, settings=SETTINGS)
    assert again == page
    assert again.read_bytes() == html.encode()


def test_slides_that_are_gone_or_damaged_or_unnamed_are_told(run_folder, slide_path, tmp_path, html):
    first, second = re.findall(r'<span class="id">(\w+)</span>', html)
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(slide_path.read_bytes()[:5000])
    rows = manifest(slide_path, **{first: tmp_path / "gone.tif", second: damaged})
    told = run_report(rows, results_dir=run_folder, settings=SETTINGS).read_text(encoding="utf-8")
    assert told.count("No picture: ") == 2
    assert pictures(told) == []
    assert str(tmp_path) not in told
    unnamed = rows._replace(rows=tuple(row for row in rows.rows if row.slide_id not in {first, second}))
    told = run_report(unnamed, results_dir=run_folder, settings=SETTINGS).read_text(encoding="utf-8")
    assert told.count("the manifest does not name this slide any more") == 2


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("evaluation/metrics.json", "wsi-kd evaluate"),
        ("models/weno/seed0/fold1/history.csv", "wsi-kd train"),
        ("models/weno/seed0/fold1/model.json", "wsi-kd train"),
        ("predictions/abmil/seed0/fold0/predictions.csv", "wsi-kd predict"),
        ("splits.csv.meta.json", "wsi-kd split"),
    ],
)
def test_missing_and_damaged_files_are_refused_with_their_remedy(run_folder, slide_path, file, remedy):
    path = run_folder / file
    content = path.read_bytes()
    for spoilt in (None, content[: len(content) // 2], content.replace(b"0", b"1", 1)):
        path.unlink(missing_ok=True)
        if spoilt is not None:
            path.write_bytes(spoilt)
        with pytest.raises(BadInput, match=remedy):
            run_report(manifest(slide_path), results_dir=run_folder, settings=SETTINGS)
    assert not (run_folder / "report").exists()
