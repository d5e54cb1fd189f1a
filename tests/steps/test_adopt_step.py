"""Step adopt: statuses, labels, what is kept, and what a model trained on given features says of itself."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from given_features import draw_features, write_clam_pt, write_torchmil, write_trident
from synthetic import TUMOR

from wsi_kd.bags.datasets import MUST_AGREE
from wsi_kd.bags.manifest import SlideRow, read_manifest
from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.adopt import run_adopt
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import SLIDE_SECTIONS, slide_sections


def row(slide_id, label="tumor", **changes):
    return SlideRow(slide_id, Path(f"{slide_id}.svs"), label, slide_id, "", None, None, "")._replace(
        **changes
    )


def settings(folder, **adopt) -> Settings:
    return parse_settings({"adopt": {"folder": str(folder), **adopt}}, where="test")


def adopt(tmp_path, rows, *, negative_label="normal", **changes):
    return run_adopt(
        rows,
        features_dir=tmp_path / "features",
        status_path=tmp_path / "features/chunk-0.csv",
        settings=settings(tmp_path / "given", **changes),
        negative_label=negative_label,
    )


def test_statuses_of_good_missing_and_damaged_files(tmp_path):
    write_trident(tmp_path / "given", "good", draw_features(0))
    write_trident(tmp_path / "given", "bad", draw_features(1)).write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    found = adopt(tmp_path, [row("good"), row("bad"), row("absent")])
    assert [found_row.status for found_row in found] == ["ok", "unreadable", "missing_features"]
    assert found[1].reason.startswith("bad.h5: not readable")
    assert str(tmp_path) not in found[1].reason
    for slide_id in ("bad", "absent"):
        empty = read_features(tmp_path / f"features/{slide_id}.h5")
        assert empty.features.shape == (0, 0)
        assert empty.header["failed_in"] == "adopt"


def test_a_file_stays_until_source_label_or_settings_change(tmp_path):
    write_trident(tmp_path / "given", "s", draw_features(0))
    path = tmp_path / "features/s.h5"

    def inode(rows, **changes):
        adopt(tmp_path, rows, **changes)
        return path.stat().st_ino

    first = inode([row("s")])
    assert inode([row("s")]) == first
    assert read_features(path).tile_labels.tolist() == [-1] * 12
    assert inode([row("s", label="normal")]) != first
    assert read_features(path).tile_labels.tolist() == [0] * 12
    assert inode([row("s")], encoder="uni2") is not None
    assert read_features(path).header["encoder"] == "given:uni2"
    second = path.stat().st_ino
    write_trident(tmp_path / "given", "s", draw_features(2))
    assert inode([row("s")], encoder="uni2") != second


def test_labels_from_torchmil_stay_and_an_annotation_goes_before_them(tmp_path):
    labels = np.array([[1]] + [[0]] * 11)
    write_torchmil(tmp_path / "given", "s", draw_features(0), labels=labels)
    adopt(tmp_path, [row("s")])
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [1] + [0] * 11
    adopt(tmp_path, [row("s", label="normal")])  # a negative slide has no positive tile
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [0] * 12
    np.save(tmp_path / "given/inst_labels/s.npy", np.zeros(12))
    adopt(tmp_path, [row("s")])  # zeros alone on a positive slide tell nothing
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [-1] * 12
    adopt(tmp_path, [row("s", label="")], negative_label=None)  # no manifest: nothing is taken away
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [0] * 12
    np.save(tmp_path / "given/inst_labels/s.npy", labels)
    ring = [[512, 0], [1024, 0], [1024, 512], [512, 512], [512, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    drawn = tmp_path / "s.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    adopt(tmp_path, [row("s", annotation=drawn)])
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [0, 1] + [0] * 10
    feature["geometry"]["coordinates"] = [[[x - 512, y] for x, y in ring]]  # corrected in QuPath
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    adopt(tmp_path, [row("s", annotation=drawn)])
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [1] + [0] * 11


def test_an_annotation_cannot_label_tiles_without_positions(tmp_path):
    write_clam_pt(tmp_path / "given", "s", draw_features(0))
    drawn = tmp_path / "s.geojson"
    drawn.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(BadInput, match="features came without positions or tile sizes"):
        adopt(tmp_path, [row("s", annotation=drawn)])


def test_our_own_files_keep_the_settings_that_made_them(tmp_path):
    write_trident(tmp_path / "given", "s", draw_features(0))
    adopt(tmp_path, [row("s")])
    foreign = read_features(tmp_path / "features/s.h5")
    assert set(slide_sections(foreign.header, Settings())) == {"slides", "adopt"}
    made_with = {name: {"some": name} for name in ("slides", "mask", "tile", "embed")}
    own = {**foreign.header, "settings": made_with}
    assert slide_sections(own, Settings()) == made_with
    plain = {key: value for key, value in own.items() if key != "adopted"}
    assert set(slide_sections(plain, Settings())) == set(SLIDE_SECTIONS)


def test_a_table_of_labels_is_a_manifest_where_features_are_given(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("case_id,slide_id,label\np,s1.svs,normal\nq,s2,tumor\n")
    sheet = read_manifest(table, slides_dir=None, classes=(), with_slides=False)
    assert [(found.slide_id, found.case_id) for found in sheet.rows] == [("s1", "p"), ("s2", "q")]
    with pytest.raises(BadInput, match="no column path"):
        read_manifest(table, slides_dir=None, classes=())
    table.write_text("case_id,slide_id,label\np,,normal\n")
    with pytest.raises(BadInput, match="line 2, column slide_id: empty"):
        read_manifest(table, slides_dir=None, classes=(), with_slides=False)


def test_a_model_on_our_own_adopted_features_can_still_read_slides(synthetic_slide, tmp_path):
    """Mask, tile and embed a slide, adopt the folder: sections, encoder and arrays are those of embed."""
    chosen = parse_settings({"tile": {"tile_px": 128}, "mask": {"mask_mpp": 2.0}}, where="test")
    drawn = row("normal", "normal", path=synthetic_slide("normal").path)
    masks, tiles, given = (tmp_path / name for name in ("masks", "tiles", "given"))
    run_mask([drawn], masks_dir=masks, status_path=masks / "chunk-0.csv", settings=chosen)
    run_tile([drawn], masks_dir=masks, tiles_dir=tiles, status_path=tiles / "chunk-0.csv", settings=chosen)
    run_embed(
        [drawn], tiles_dir=tiles, features_dir=given, status_path=given / "chunk-0.csv", settings=chosen
    )
    assert [found.status for found in adopt(tmp_path, [drawn])] == ["ok"]
    before, after = read_features(given / "normal.h5"), read_features(tmp_path / "features/normal.h5")
    assert np.array_equal(after.features, before.features)
    assert np.array_equal(after.quality, before.quality)
    assert {key: after.header[key] for key in MUST_AGREE} == {key: before.header[key] for key in MUST_AGREE}
    own = {name: getattr(chosen, name).model_dump(mode="json") for name in SLIDE_SECTIONS}
    assert slide_sections(after.header, Settings()) == own


def test_an_annotation_is_placed_by_the_bounds_of_its_slide(synthetic_slide, tmp_path):
    """QuPath counts from the corner of the scanned area, TRIDENT's positions from that of the scan."""
    drawn = synthetic_slide("bounds")
    x, y = drawn.origin
    center = np.array([x + TUMOR[0], y + TUMOR[1]])
    path = write_trident(
        tmp_path / "given", "s", draw_features(0, tiles=2), patch_size_level0=64, level0_width=0
    )
    with h5py.File(path, "r+") as file:
        file["coords"][:] = [center - 32, center - (x, y) - 32]
    adopt(tmp_path, [row("s", path=drawn.path, annotation=drawn.annotation)])
    found = read_features(tmp_path / "features/s.h5")
    assert found.tile_labels.tolist() == [1, 0]
    assert found.header["bounds"][:2] == [x, y]
    adopt(tmp_path, [row("s", annotation=drawn.annotation)])  # without the slide: a scan without bounds
    assert read_features(tmp_path / "features/s.h5").tile_labels.tolist() == [0, 1]
