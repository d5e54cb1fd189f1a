"""The report step on a run's folder: real files in, one page out; slides that are gone are no error."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from checked_precision import drawn_record
from matplotlib import colormaps
from PIL import Image
from report_folders import COORDS, write_run
from report_runs import RunMaker
from reporting_parts import write_split
from synthetic import draw_slide

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.report.canvas import margins
from wsi_kd.report.heatmap import OPACITY
from wsi_kd.settings.all import parse_settings
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.report import run_report
from wsi_kd.steps.report_files import read_report_files

MAKER = RunMaker(slides=12, recipes=("weno",))
SETTINGS = parse_settings(
    {
        "run": {"title": "Step <test>"},
        "tile": {"tile_px": 128, "tile_mpp": 1.0},
        "report": {"gallery_slides": 2, "heatmap_px": 200, "top_tiles": 2},
    },
    where="test",
)
SECTIONS = {
    name: getattr(SETTINGS, name).model_dump(mode="json") for name in ("slides", "mask", "tile", "embed")
}
FILES = ("metrics.json", "reporting_items.json")
TABLES = ("precision.csv", "predictions.csv", "slides.csv", "tiles.csv", "timings.csv", "training.csv")


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return draw_slide(tmp_path_factory.mktemp("slides"), "tumor").path


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_run(MAKER, root, SECTIONS)
    publish_json(root / "evaluation" / "precision.json", drawn_record())
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
    written = {file.name for file in page.parent.iterdir()}
    assert written == {"index.html", *FILES, *TABLES, *(f"{name}.meta.json" for name in TABLES)}
    remake = "wsi-kd report"
    metrics = read_json(finished_run / "evaluation" / "metrics.json", remake=remake)
    assert read_json(page.parent / "metrics.json", remake=remake) == metrics
    assert "<title>Step &lt;test&gt;</title>" in html
    auc = metrics["recipes"]["weno"]["scores"]["student"]["pooled"]["roc_auc"]["estimate"]
    assert f'data-number="{auc}">{auc:.3f}' in html
    assert "a_validation_slide" not in html
    assert str(finished_run) not in html
    assert str(slide_path.parent) not in html


def test_the_precision_that_was_checked_is_shown_from_its_table(page, html):
    (line,) = read_report_files(page.parent).precision
    assert (line.model, line.largest_change, line.changed_calls) == ("weno/seed7/fold0", 0.0625, None)
    section = html.partition('<section id="precision"')[2].partition('<section id="timings"')[0]
    assert all(text in section for text in ("slide_0: &lt;moved&gt;. What to do: set embed", "above 0.01"))


def test_the_gallery_reads_the_slides_again_at_the_size_asked_for(html):
    drawn = pictures(html)
    drawn, tiles = drawn[:3], drawn[3:6]
    assert len(pictures(html)) == 2 * (3 + 3)
    assert {tile.size for tile in tiles} == {(128, 128)}
    # 1024 x 768 px at heatmap_px 200 becomes 200 x 150, enlarged threefold to reach 480 px.
    around = margins((450, 600, 3))
    assert {image.size[0] for image in drawn} == {600 + 2 * around.side_px + around.bar_px}
    slide, student, _ = (np.asarray(image.convert("RGB")) / 255 for image in drawn)
    # The first tile covers 200-456 of 1024 level-0 pixels across: 117-267 of 600 pixels of the image.
    inside = (around.title_px + 230, around.side_px + 190)
    gray = 0.35 + 0.65 * slide[inside] @ [0.299, 0.587, 0.114]
    expected = OPACITY * np.array(colormaps["viridis"](0.1)[:3]) + (1 - OPACITY) * gray
    np.testing.assert_allclose(student[inside], expected, atol=0.06)
    beside = student[around.title_px + 10, around.side_px + 20]
    assert np.ptp(beside) < 0.05


def test_the_settings_shown_are_those_recorded(html):
    listing = html.partition("Settings as the run")[2].partition("</pre>")[0]
    recorded = ("tile_mpp: 1.0", "folds: 5", "weno:", "bootstrap_samples: 100", "heatmap_px: 200")
    assert [line for line in recorded if line not in listing] == []


def test_the_same_run_makes_the_same_bytes(page, html, finished_run, slide_path):
    again = run_report(manifest(slide_path), results_dir=finished_run, settings=SETTINGS)
    assert again == page
    assert again.read_bytes() == html.encode()


def test_slides_that_are_gone_or_damaged_are_told(run_folder, slide_path, tmp_path, html):
    first, second = shown_slides(html)
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(slide_path.read_bytes()[:5000])
    rows = manifest(slide_path, **{first: tmp_path / "gone.tif", second: damaged})
    told = run_report(rows, results_dir=run_folder, settings=SETTINGS).read_text(encoding="utf-8")
    assert told.count("No picture: ") == 2
    assert "its file is not where the manifest says; name it: --manifest slides.csv" in told
    assert pictures(told) == []
    assert str(tmp_path) not in told
    assert read_report_files(run_folder / "report").tiles == ()


def test_slides_without_a_picture_are_counted(run_folder, slide_path, tmp_path, caplog, html):
    rows = manifest(slide_path, **{shown_slides(html)[0]: tmp_path / "gone.tif"})
    told = run_report(rows, results_dir=run_folder, settings=SETTINGS).read_text(encoding="utf-8")
    assert "1 of these 2 slides have no picture; each says why." in told
    (line,) = caplog.messages
    assert line.startswith("report: 1 of the 2 slides of the gallery have no picture: its file is not where")


def test_labels_and_cases_that_changed_since_are_told(run_folder, slide_path, caplog, html):
    rows = manifest(slide_path)
    first, second = rows.rows[:2]
    changed = (first._replace(label="tumor"), second._replace(case_id="another"), *rows.rows[2:])
    page = run_report(rows._replace(rows=changed), results_dir=run_folder, settings=SETTINGS)
    (line,) = caplog.messages
    assert line == (
        "report: the manifest has changed since the run was evaluated: slide_0 (label: 'tumor', evaluated "
        "with 'normal'), slide_1 (case: 'another', evaluated with 'case_0'); the page shows what was "
        "evaluated; run anew: wsi-kd split, wsi-kd train, wsi-kd predict, wsi-kd evaluate"
    )
    assert page.read_text(encoding="utf-8") == html


def shown_slides(html):
    return re.findall(r'<span class="id">(\w+)</span>', html)


def test_the_tiles_shown_are_the_slide_s_own_pixels_by_their_scores(html, finished_run, slide_path):
    shown = read_report_files(finished_run / "report").tiles
    first = [tile for tile in shown if tile.slide_id == shown[0].slide_id]
    assert [(tile.end, tile.rank, tile.score, tile.tile_label) for tile in first] == [
        ("top", 1, 0.9, 1),
        ("top", 2, 0.5, 0),
        ("bottom", 1, 0.1, 0),
    ]
    assert {(tile.mapping, tile.tile_mpp) for tile in first} == {("student_probability", 1.0)}
    with open_slide(slide_path, background="white") as reader:
        region = reader.read_region(x_level0_px=200, y_level0_px=512, level=0, width_px=256, height_px=256)
    expected = region.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    found = np.asarray(pictures(html)[3].convert("RGB"), dtype=float)
    assert np.abs(found - expected).mean() < 6  # JPEG
    assert "0.900, labeled positive" in html
    assert "Highest student probability; tiles as read at 1 um/px" in html
    assert "1.000" not in {cell for tile in shown for cell in (f"{tile.score:.3f}",)}


@pytest.fixture(scope="module")
def altered(finished_run, slide_path, tmp_path_factory, html):
    """The page of the run without benchmarks, made elsewhere, its slides replaced or no longer named."""
    root = tmp_path_factory.mktemp("altered") / "run"
    shutil.copytree(finished_run, root, ignore=shutil.ignore_patterns("report", "benchmarks"))
    private = "/home/jane_doe/project_x"
    for path in (root / "models").rglob("model.json"):
        header = read_json(path, remake="")
        header["sections"] = {**SECTIONS, "embed": {"weights": f"{private}/uni.safetensors"}}
        publish_json(path, header)
    write_split(MAKER, root / "splits.csv", {"given": f"{private}/splits", "folds": 5})
    replaced, unnamed = shown_slides(html)
    header = {**stamp("features", {}), "status": "ok", "fingerprint": "another file's"}
    features = np.zeros((1, 2), np.float16)
    write_features(
        root / "features" / f"{replaced}.h5",
        FeatureFile(replaced, features, COORDS[:1], np.zeros(1, np.int8), header),
    )
    rows = manifest(slide_path)
    rows = rows._replace(rows=tuple(row for row in rows.rows if row.slide_id != unnamed))
    return run_report(rows, results_dir=root, settings=SETTINGS).read_text(encoding="utf-8")


def test_folders_in_the_settings_are_cut_to_their_names(altered):
    assert "weights: uni.safetensors" in altered
    assert "given: splits" in altered
    assert "jane_doe" not in altered


def test_slides_that_were_replaced_or_are_unnamed_are_told(altered):
    assert altered.count("No picture: ") == 2
    assert "No picture: the file is not the one that the features were made of" in altered
    assert "its file is not named; give the run&#39;s manifest: --manifest slides.csv" in altered


def test_time_and_memory_come_from_snakemake_s_files(html, finished_run, altered):
    jobs = read_report_files(finished_run / "report").jobs
    assert [tuple(job) for job in jobs] == [
        ("mask", "", 75.5, 70.0, None),
        ("train", "weno-seed0-fold1", 75.5, 70.0, 512.25),
    ]
    assert '<td class="number" data-number="75.5">1 min 16 s</td>' in html
    assert "Not measured: the run holds no benchmark files" in altered


def test_the_data_files_hold_the_run(finished_run):
    data = read_report_files(finished_run / "report")
    assert [model.test for model in data.models] == [model.test for model in MAKER.models()]
    assert "warning" not in data.models[0].history
    assert [slide.slide_id for slide in data.slides] == [row.slide_id for row in MAKER.statuses()]
    recorded = read_json(finished_run / "report" / "slides.csv.meta.json", remake="")["settings"]
    assert (recorded["title"], recorded["report"]["top_tiles"]) == ("Step <test>", 2)


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("evaluation/metrics.json", "wsi-kd evaluate"),
        ("models/weno/seed0/fold1/history.csv", "wsi-kd train"),
        ("models/weno/seed0/fold1/model.json", "wsi-kd train"),
        ("predictions/weno/seed0/fold0/predictions.csv", "wsi-kd predict"),
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


def test_a_case_in_two_parts_of_a_fold_stops_the_report(run_folder, slide_path):
    split = read_json(run_folder / "splits.csv.meta.json", remake="")["settings"]["split"]
    write_split(MAKER, run_folder / "splits.csv", split, case_of={"slide_2": "case_0"})
    told = r"fold 0 leaks: cases in more than one part: case_0 \(val and test\); keep all slides of a case"
    with pytest.raises(BadInput, match=told):
        run_report(manifest(slide_path), results_dir=run_folder, settings=SETTINGS)
    assert not (run_folder / "report").exists()


def test_the_checklist_is_drawn_from_its_file(html, finished_run):
    items = read_report_files(finished_run / "report").reporting["items"]
    assert items["partition"]["facts"]["origin"] == "drawn"
    assert items["hashes"]["facts"]["splits_sha256"] in (finished_run / "splits.csv.meta.json").read_text()
    section = html.partition('<section id="reporting">')[2].partition("</section>")[0]
    assert items["flow"]["text"] in section
    validation = [part for part in items["performance"]["facts"] if part["part"] == "val"]
    assert {part["slides"] for part in validation} == {2}
    assert validation[0]["metrics"]["roc_auc"]["estimate"] is None
    assert "no positives among 2" in validation[0]["metrics"]["roc_auc"]["reason"]
