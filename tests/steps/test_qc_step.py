import csv
import shutil
from types import SimpleNamespace

import cv2
import pytest
from drawn_defects import plain_slide, slide_row, with_pen

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import read_header, read_tiles
from wsi_kd.report.qc_outlines import LINE_COLORS
from wsi_kd.settings.all import parse_settings
from wsi_kd.slides import openslide_reader
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.qc import QcChunk, QcFolders, run_qc
from wsi_kd.steps.status import read_status, write_status
from wsi_kd.steps.tile import run_tile

KINDS = ("normal", "bounds", "empty", "missing_mpp", "truncated")


def settings_of(**sections):
    return parse_settings({"tile": {"tile_px": 64}, **sections}, where="test")


@pytest.fixture(scope="module")
def tiled(synthetic_slide, tmp_path_factory):
    """A run of five slides up to its tiles; tests work on copies."""
    root = tmp_path_factory.mktemp("qc_run")
    slides = [synthetic_slide(kind) for kind in KINDS]
    rows = [SlideRow(slide.kind, slide.path, "normal", "", "", None, None, "") for slide in slides]
    tables = {step: root / step / "chunk-0.csv" for step in ("masks", "tiles")}
    run_mask(rows, masks_dir=root / "masks", status_path=tables["masks"], settings=settings_of())
    run_tile(
        rows,
        masks_dir=root / "masks",
        tiles_dir=root / "tiles",
        status_path=tables["tiles"],
        settings=settings_of(),
    )
    return SimpleNamespace(root=root, rows=rows)


@pytest.fixture
def cohort(tiled, tmp_path):
    shutil.copytree(tiled.root, tmp_path / "run")
    return SimpleNamespace(root=tmp_path / "run", rows=list(tiled.rows))


def draw(cohort, settings=None, *, stage="tile", rows=None, workers=2, missing=0):
    root, rows = cohort.root, rows or cohort.rows
    table = root / {"mask": "masks", "tile": "tiles"}[stage] / "chunk-0.csv"
    return run_qc(
        [QcChunk(rows, stage, table)],
        folders=QcFolders(root / "masks", root / "tiles", root / "features"),
        out_dir=root / "qc",
        settings=settings or settings_of(),
        missing=missing,
        workers=workers,
    )


def table_of(cohort):
    with (cohort.root / "qc" / "qc.csv").open(newline="") as handle:
        return {line["slide_id"]: line for line in csv.DictReader(handle)}


def stamps(cohort):
    return {path.name: path.stat().st_mtime_ns for path in (cohort.root / "qc" / "thumbnails").iterdir()}


def test_page_table_and_thumbnails_of_a_cohort(cohort, synthetic_slide):
    page = draw(cohort)
    text, lines = page.read_text(), table_of(cohort)
    assert page == cohort.root / "qc" / "index.html"
    assert [lines[kind]["status"] for kind in KINDS] == ["ok", "ok", "empty", "missing_mpp", "unreadable"]
    assert int(lines["normal"]["tiles"]) > 50
    assert float(lines["bounds"]["tissue_mm2"]) == pytest.approx(
        float(lines["normal"]["tissue_mm2"]), rel=0.02
    )
    assert lines["bounds"]["vendor"] == "leica"
    assert lines["missing_mpp"]["slide_mpp"] == ""
    assert lines["missing_mpp"]["thumbnail"] == "thumbnails/missing_mpp.jpg"
    assert text.count("<article") == 5
    pixels = cv2.imread(str(cohort.root / "qc" / lines["bounds"]["thumbnail"]))
    assert pixels.shape == (384, 512, 3)  # of the scanned part alone, 1024 x 768
    assert str(synthetic_slide("normal").path.parent) not in text


def test_outlines_lie_on_the_thumbnails_tissue(cohort):
    draw(cohort)
    drawing = (cohort.root / "qc" / "thumbnails" / "bounds.svg").read_text()
    assert 'viewBox="0 0 512 384"' in drawing
    x, y = (
        [float(number) for number in drawing.split(' d="M')[1].split("Z")[0].split(" ")[axis::2]]
        for axis in (0, 1)
    )
    # pieces at x 300 +- 200 and 760 +- 180, y about 400 +- 250 in level-0 px; the thumbnail halves them
    assert (min(x), max(x)) == pytest.approx((50, 470), abs=14)
    assert (min(y), max(y)) == pytest.approx((65, 315), abs=14)


def test_thumbnails_that_fit_are_kept_and_others_made_anew(cohort):
    draw(cohort)
    before = stamps(cohort)
    page = (cohort.root / "qc" / "index.html").read_bytes()
    draw(cohort, workers=1)
    assert stamps(cohort) == before
    assert (cohort.root / "qc" / "index.html").read_bytes() == page
    (cohort.root / "qc" / "thumbnails" / "normal.jpg").write_bytes(b"damaged")
    (cohort.root / "qc" / "thumbnails" / "empty.svg").unlink()
    draw(cohort)
    assert {name for name, stamp in stamps(cohort).items() if stamp != before[name]} == {
        "normal.jpg",
        "normal.svg",
        "empty.jpg",
        "empty.svg",
    }
    draw(cohort, settings_of(qc={"thumbnail_px": 128}))
    assert cv2.imread(str(cohort.root / "qc" / "thumbnails" / "bounds.jpg")).shape == (96, 128, 3)


def test_masks_alone_can_be_looked_at(cohort):
    page = draw(cohort, stage="mask", missing=3)
    assert {line["tiles"] for line in table_of(cohort).values()} == {"0"}
    assert "Not looked at yet</dt><dd>3" in page.read_text()


def test_a_slide_that_was_replaced_has_no_thumbnail(cohort, tmp_path, synthetic_slide):
    other = tmp_path / "normal.tiff"
    shutil.copy(synthetic_slide("empty").path, other)
    cohort.rows[0] = cohort.rows[0]._replace(path=other)
    page = draw(cohort)
    assert table_of(cohort)["normal"]["thumbnail"] == ""
    assert "No thumbnail: the file is not the one that the mask was made of" in page.read_text()


def test_a_slide_that_is_gone_is_told_without_its_folder(cohort, tmp_path):
    cohort.rows[0] = cohort.rows[0]._replace(path=tmp_path / "Doe_Jane" / "normal.tiff")
    text = draw(cohort).read_text()
    assert "No thumbnail: " in text
    assert "Doe_Jane" not in text


def test_a_reason_that_names_the_slides_folder_is_shown_without_it(cohort):
    table, where = cohort.root / "tiles" / "chunk-0.csv", cohort.rows[-1].path
    rows = [
        row._replace(reason=f"cannot read {where}: broken") if row.slide_id == "truncated" else row
        for row in read_status(table)
    ]
    write_status(table, rows, stamp("status", {}))
    page = draw(cohort).read_text()
    assert f"cannot read {where.name}: broken" in page
    assert str(where.parent) not in page + (cohort.root / "qc" / "qc.csv").read_text()


def test_label_and_macro_images_are_never_read(cohort, monkeypatch):
    def refuse(*_):
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide_reader.openslide.OpenSlide, "associated_images", property(refuse))
    monkeypatch.setattr(openslide_reader.openslide.lowlevel, "read_associated_image", refuse)
    draw(cohort)
    assert table_of(cohort)["bounds"]["thumbnail"]


def test_a_status_table_of_other_slides_is_refused(cohort):
    stranger = cohort.rows[0]._replace(slide_id="stranger")
    with pytest.raises(BadInput, match=r"does not hold slide 'stranger'.*wsi-kd tile"):
        draw(cohort, rows=[stranger])
    (cohort.root / "masks" / "normal.geojson").unlink()
    with pytest.raises(BadInput, match=r"normal\.geojson: no such file; make it with: wsi-kd mask"):
        draw(cohort)


def test_a_mask_that_is_damaged_or_was_edited_in_place_is_refused_with_the_command(cohort):
    mask = cohort.root / "masks" / "normal.geojson"
    content = mask.read_text()
    mask.write_text(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"normal\.geojson: not valid JSON.*make it anew with: wsi-kd mask"):
        draw(cohort)
    mask.write_text(content.replace("[[[", "[[[1.5, 2.5], [", 1))
    with pytest.raises(BadInput, match=r"normal\.geojson: changed since it was written.*mask\.edited_dir"):
        draw(cohort)


def test_the_command_takes_each_chunk_as_far_as_it_is(cohort, tmp_path, capsys):
    lines = ["slide_id,path,label", *(f"{row.slide_id},{row.path},{row.label}" for row in cohort.rows)]
    for number in range(2):
        later = shutil.copy(cohort.rows[0].path, tmp_path / f"later_{number}.tiff")
        lines.append(f"later_{number},{later},tumor")
    config = tmp_path / "my.yaml"
    (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n")
    config.write_text(
        f"run: {{manifest: {tmp_path}/slides.csv, results_dir: {cohort.root}, slides_per_job: 5}}\n"
    )
    assert run(["qc", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"qc: {cohort.root}/qc/index.html\n"
    assert len(table_of(cohort)) == 5
    assert "Not looked at yet</dt><dd>2" in (cohort.root / "qc" / "index.html").read_text()
    assert run(["qc", "--config", str(config), "--results-dir", str(tmp_path / "new")]) == 2
    assert "no slide has a mask yet; find the tissue first: wsi-kd mask" in capsys.readouterr().err


def test_pen_is_outlined_on_a_slide_without_tissue_too(tmp_path):
    row = slide_row(tmp_path, with_pen(plain_slide(with_tissue=False), ink="green").pixels)
    run_mask(
        [row],
        masks_dir=tmp_path / "masks",
        status_path=tmp_path / "masks/chunk-0.csv",
        settings=settings_of(),
    )
    cohort = SimpleNamespace(root=tmp_path, rows=[row])
    text = draw(cohort, stage="mask").read_text()
    line = table_of(cohort)[row.slide_id]
    assert line["status"] == "empty"
    assert float(line["pen_mm2"]) > 0
    drawing = (tmp_path / "qc" / "thumbnails" / f"{row.slide_id}.svg").read_text()
    assert drawing.count("<path") == 1
    assert LINE_COLORS["pen"] in drawing
    assert 'data-key="pen" data-number="0.' in text


def test_measured_tiles_reach_the_card_and_those_left_out_count(cohort):
    rows = cohort.rows[:1]
    settings = settings_of(embed={"max_background_fraction": 0.5})
    table = cohort.root / "features" / "chunk-0.csv"
    run_embed(
        rows,
        tiles_dir=cohort.root / "tiles",
        features_dir=cohort.root / "features",
        status_path=table,
        settings=settings,
        workers=0,
    )
    run_qc(
        [QcChunk(rows, "embed", table)],
        folders=QcFolders(cohort.root / "masks", cohort.root / "tiles", cohort.root / "features"),
        out_dir=cohort.root / "qc",
        settings=settings,
        workers=1,
    )
    line = table_of(cohort)["normal"]
    laid = len(read_tiles(cohort.root / "tiles" / "normal.h5").coords)
    header = read_header(cohort.root / "features" / "normal.h5")
    assert int(line["measured_tiles"]) == laid
    assert int(line["tiles"]) == laid - header["dropped_background"]
    assert int(line["background_tiles"]) == header["dropped_background"] > 0
    assert (line["pen_tiles"], line["mask_source"]) == ("0", "thumbnail")
