import json

import numpy as np
import pytest
import shapely

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import KIND_VERSIONS
from wsi_kd.core.records import SlideStatus
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps import mask as mask_step
from wsi_kd.steps.mask import mask_slide, run_mask
from wsi_kd.steps.status import read_status
from wsi_kd.tissue.polygons import ChangedTissue, read_tissue


def row_of(path, *, slide_mpp=None, slide_id=None):
    slide_id = slide_id or path.stem
    return SlideRow(slide_id, path, "", slide_id, "", slide_mpp, None, "")


def run(rows, folder, settings=None):
    return run_mask(
        rows, masks_dir=folder, status_path=folder / "chunk-0.csv", settings=settings or Settings()
    )


@pytest.mark.parametrize("kind", ["normal", "tumor", "transparent", "bounds"])
def test_tissue_lies_where_it_was_drawn(synthetic_slide, kind):
    slide = synthetic_slide(kind)
    found = mask_slide(row_of(slide.path), Settings())
    assert found.header["status"] == "ok"
    assert found.header["slide_mpp"] == pytest.approx(slide.mpp, rel=1e-6)
    overview_px = 8.0 / slide.mpp  # edges are blurred by the overview's JPEG, by texture and closing
    assert found.tissue.buffer(overview_px).contains(slide.tissue)
    assert slide.tissue.buffer(4 * overview_px).contains(found.tissue)
    assert found.header["bounds"] == [*slide.origin, 1024, 768]
    assert found.header["tissue_mm2"] == pytest.approx(found.tissue.area * 0.25e-6, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        ("empty", SlideStatus.EMPTY, "no tissue"),
        ("dark_field", SlideStatus.EMPTY, "dark field"),
        ("missing_mpp", SlideStatus.MISSING_MPP, "slide_mpp"),
        ("implausible_mpp", SlideStatus.MISSING_MPP, "352.8"),
        ("truncated", SlideStatus.UNREADABLE, ""),
    ],
)
def test_odd_slides_end_with_a_status_and_a_reason(synthetic_slide, kind, status, told):
    found = mask_slide(row_of(synthetic_slide(kind).path), Settings())
    assert (found.header["status"], found.header["failed_in"]) == (status, "mask")
    assert told in found.header["reason"]
    assert found.header["reason"]
    assert found.tissue.is_empty


def test_a_slide_mpp_of_the_manifest_rescues_a_slide(synthetic_slide):
    slide = synthetic_slide("missing_mpp")
    found = mask_slide(row_of(slide.path, slide_mpp=0.5), Settings())
    assert (found.header["status"], found.header["mpp_source"]) == ("ok", "override")
    assert found.tissue.intersection(slide.tissue).area / slide.tissue.area > 0.9


def test_a_chunk_is_written_with_its_table_and_read_back(synthetic_slide, tmp_path):
    rows = [row_of(synthetic_slide(kind).path) for kind in ("normal", "empty")]
    statuses = run(rows, tmp_path)
    assert [(row.slide_id, row.status, row.step) for row in statuses] == [
        ("normal", "ok", "mask"),
        ("empty", "empty", "mask"),
    ]
    assert read_status(tmp_path / "chunk-0.csv") == statuses
    file = read_tissue(tmp_path / "normal.geojson")
    assert file.header == mask_slide(rows[0], Settings()).header
    assert shapely.equals_exact(file.tissue, mask_slide(rows[0], Settings()).tissue)
    assert read_tissue(tmp_path / "empty.geojson").header["reason"] == statuses[1].reason


def test_files_that_still_fit_are_kept_and_others_made_anew(synthetic_slide, tmp_path, monkeypatch):
    rows = [row_of(synthetic_slide(kind).path) for kind in ("normal", "empty")]
    first = run(rows, tmp_path)
    made = []
    original = mask_step._find_tissue

    def counted(row, *args, **kwargs):
        made.append(row.slide_id)
        return original(row, *args, **kwargs)

    monkeypatch.setattr(mask_step, "_find_tissue", counted)
    again = run(rows, tmp_path)
    assert made == []
    assert [row._replace(seconds=0) for row in again] == [row._replace(seconds=0) for row in first]
    (tmp_path / "empty.geojson").unlink()
    run(rows, tmp_path)
    assert made == ["empty"]
    run([rows[0]._replace(slide_mpp=0.25), rows[1]], tmp_path)
    assert made == ["empty", "normal"]
    (tmp_path / "normal.geojson").write_text("{")
    run([rows[0]], tmp_path)
    run([rows[0]], tmp_path, parse_settings({"mask": {"close_um": 16.0}}, where="test"))
    assert made[2:] == ["normal", "normal"]
    run(
        [rows[0]],
        tmp_path,
        parse_settings({"mask": {"close_um": 16.0}, "tile": {"tile_px": 64}}, where="test"),
    )
    assert made[4:] == []


def test_a_mask_of_a_former_version_is_made_anew(synthetic_slide, tmp_path, monkeypatch):
    """Where the way of finding tissue changes, the kind's version does, and no old mask is kept."""
    row = row_of(synthetic_slide("normal").path)
    run([row], tmp_path)
    now = KIND_VERSIONS["mask"]
    monkeypatch.setitem(KIND_VERSIONS, "mask", now + 1)
    run([row], tmp_path)
    assert read_tissue(tmp_path / "normal.geojson").header["schema_version"] == now + 1


def test_an_edit_in_place_is_refused_not_overwritten(synthetic_slide, tmp_path):
    rows = [row_of(synthetic_slide("normal").path)]
    run(rows, tmp_path)
    path = tmp_path / "normal.geojson"
    value = json.loads(path.read_text())
    value["features"].pop()
    path.write_text(json.dumps(value))
    with pytest.raises(ChangedTissue, match=r"mask\.edited_dir"):
        run(rows, tmp_path)
    assert json.loads(path.read_text()) == value


def edited(folder, value):
    folder.mkdir(exist_ok=True)
    (folder / "bounds.geojson").write_text(json.dumps(value))
    return parse_settings({"mask": {"edited_dir": str(folder)}}, where="test")


def test_an_edited_outline_replaces_the_segmentation(synthetic_slide, tmp_path):
    slide = synthetic_slide("bounds")
    square = {
        "type": "Polygon",
        "coordinates": [[[100, 100], [300, 100], [300, 200], [100, 200], [100, 100]]],
    }
    settings = edited(tmp_path / "edited", square)
    x, y = slide.origin
    found = mask_slide(row_of(slide.path), settings)
    assert shapely.equals(found.tissue, shapely.box(x + 100, y + 100, x + 300, y + 200))
    assert (found.header["mask_source"], found.header["status"]) == ("edited", "ok")
    assert found.header["tissue_mm2"] == pytest.approx(200 * 100 * 0.25e-6, rel=1e-5)
    before = mask_slide(row_of(slide.path), Settings()).header["inputs_hash"]
    assert found.header["inputs_hash"] != before
    square["coordinates"][0][1][0] = 310
    assert mask_slide(row_of(slide.path), edited(tmp_path / "edited", square)).header["inputs_hash"] not in {
        before,
        found.header["inputs_hash"],
    }


def test_a_mask_of_ours_edited_elsewhere_is_accepted(synthetic_slide, tmp_path):
    slide = synthetic_slide("bounds")
    run([row_of(slide.path)], tmp_path)
    value = json.loads((tmp_path / "bounds.geojson").read_text())
    value["features"] = value["features"][:1]
    found = mask_slide(row_of(slide.path), edited(tmp_path / "edited", value))
    original = read_tissue(tmp_path / "bounds.geojson").tissue
    assert found.tissue.area == pytest.approx(original.geoms[0].area, rel=1e-9)


def test_an_edited_outline_without_tissue_ends_as_empty(synthetic_slide, tmp_path):
    row = row_of(synthetic_slide("bounds").path)
    found = mask_slide(row, edited(tmp_path / "edited", {"type": "FeatureCollection", "features": []}))
    assert found.header["status"] == SlideStatus.EMPTY
    assert "edited outline" in found.header["reason"]


def test_broken_edited_outlines_and_folders_are_bad_input(synthetic_slide, tmp_path):
    row = row_of(synthetic_slide("bounds").path)
    with pytest.raises(BadInput, match=r"bounds\.geojson"):
        mask_slide(row, edited(tmp_path / "edited", {"type": "Nothing"}))
    gone = parse_settings({"mask": {"edited_dir": str(tmp_path / "none")}}, where="test")
    with pytest.raises(BadInput, match="is no folder"):
        mask_slide(row, gone)


def test_whatever_a_reader_raises_ends_as_unreadable(synthetic_slide, monkeypatch):
    row = row_of(synthetic_slide("normal").path)

    def fail(*args, **kwargs):
        raise ZeroDivisionError("odd\nheader")

    monkeypatch.setattr(mask_step, "open_overview", fail)
    found = mask_slide(row, Settings())
    assert found.header["status"] == SlideStatus.UNREADABLE
    assert found.header["reason"] == "reading failed (ZeroDivisionError: odd header); export the slide again"

    def starve(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(mask_step, "open_overview", starve)
    with pytest.raises(MemoryError):
        mask_slide(row, Settings())


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("wsi/CMU-1-Small-Region.svs", "ok", ""),
        ("derived/cmu1_small_4level_aperio.svs", "ok", ""),
        ("derived/os2_ki67_4level_generic_mpp.tif", "ok", ""),
        ("wsi/test3-DAPI-2-_387_.ndpi", "empty", "dark field"),
        ("wsi/ezwsi_multiframe_camelyon_challenge_image.dcm", "missing_mpp", "28.97"),
        ("wsi/OS-1-detail.ome.tif", "ok", ""),
        ("faulty/empty.svs", "unreadable", "0 bytes"),
        ("faulty/histolab_broken.svs", "unreadable", "no format that is read here"),
        ("faulty/li_notanimage.txt", "unreadable", "no format that is read here"),
        ("faulty/openslide_boxes.tiff", "missing_mpp", "352.8"),
        ("faulty/openslide_small.svs", "empty", "no tissue"),
        ("faulty/openslide_unopenable.tiff", "unreadable", "compression"),
        ("faulty/openslide_unreadable.svs", "unreadable", "Bogus marker"),
    ],
)
def test_real_slides_end_with_a_status(shared_data, name, status, told):
    found = mask_slide(row_of(shared_data / name), Settings())
    assert found.header["status"] == status
    assert told in found.header["reason"]


@pytest.mark.shared_data
def test_a_real_slide_and_its_pyramid_give_the_same_tissue(shared_data):
    one = mask_slide(row_of(shared_data / "wsi/CMU-1-Small-Region.svs"), Settings()).tissue
    other = mask_slide(row_of(shared_data / "derived/cmu1_small_4level_aperio.svs"), Settings()).tissue
    assert one.intersection(other).area / one.union(other).area > 0.97
    assert np.isclose(one.area * 0.499**2 * 1e-6, 0.65, atol=0.05)
