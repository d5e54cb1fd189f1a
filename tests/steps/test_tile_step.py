import numpy as np
import pytest
import shapely

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import read_tiles
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps import tile as tile_step
from wsi_kd.steps.mask import mask_slide, run_mask
from wsi_kd.steps.status import read_status
from wsi_kd.steps.tile import run_tile, tile_slide


def settings_of(**tile):
    return parse_settings({"tile": {"tile_px": 64, **tile}}, where="test")


def row_of(slide, *, annotation=None, label=None):
    slide_id = slide.path.stem
    return SlideRow(slide_id, slide.path, label or slide.label, slide_id, "", None, annotation, "")


def tiles_of(slide, settings=None, *, negative_label=None, **row):
    settings = settings or settings_of()
    line = row_of(slide, **row)
    return tile_slide(mask_slide(line, settings), line, settings, negative_label=negative_label)


def test_tiles_lie_on_tissue_and_carry_the_geometry(synthetic_slide):
    slide = synthetic_slide("bounds")
    found = tiles_of(slide)
    centers = shapely.points(found.coords + 32)
    assert len(found.coords) > 50
    assert shapely.contains(slide.tissue.buffer(48), centers).all()
    assert found.coords.min(axis=0)[0] >= slide.origin[0]
    assert (found.tissue_fraction >= 0.5).all()
    assert found.header["tile_level0_px"] == pytest.approx(64.0, rel=1e-6)
    assert (found.header["tile_px"], found.header["tile_mpp"], found.header["overlap_px"]) == (64, 0.5, 0)
    assert set(found.header["settings"]) == {"slides", "mask", "tile"}


@pytest.mark.parametrize("kind", ["tumor", "bounds"])
def test_labels_follow_the_annotation(synthetic_slide, kind):
    slide = synthetic_slide(kind)
    found = tiles_of(slide, annotation=slide.annotation)
    tiles = shapely.box(*found.coords.T, *(found.coords + found.header["tile_level0_px"]).T)
    share = shapely.area(shapely.intersection(tiles, slide.tumor)) / found.header["tile_level0_px"] ** 2
    assert found.tile_labels.tolist() == (share >= 0.25).astype(int).tolist()
    assert 5 < (found.tile_labels == 1).sum() < len(found.tile_labels) / 2


def test_labels_without_an_annotation(synthetic_slide):
    normal = synthetic_slide("normal")
    assert set(tiles_of(normal).tile_labels.tolist()) == {-1}
    assert set(tiles_of(normal, negative_label="normal").tile_labels.tolist()) == {0}
    assert set(tiles_of(synthetic_slide("tumor"), negative_label="normal").tile_labels.tolist()) == {-1}


def test_a_positive_slide_whose_annotation_names_nothing_positive_is_refused(synthetic_slide):
    slide, settings = synthetic_slide("tumor"), settings_of(positive_names=["lesion"])
    with pytest.raises(BadInput, match=r"tumor\.geojson: tumor is labeled 'tumor'.*\(lesion\); found: Tumor"):
        tiles_of(slide, settings, negative_label="normal", annotation=slide.annotation)
    kept = tiles_of(slide, settings, negative_label="normal", annotation=slide.annotation, label="normal")
    assert set(kept.tile_labels.tolist()) == {0}


@pytest.mark.parametrize("kind", ["empty", "truncated", "missing_mpp"])
def test_a_failed_slide_passes_its_status_on(synthetic_slide, kind):
    slide = synthetic_slide(kind)
    mask, found = mask_slide(row_of(slide), settings_of()), tiles_of(slide)
    assert found.coords.shape == (0, 2)
    for key in ("status", "reason", "failed_in"):
        assert found.header[key] == mask.header[key]
    assert found.header["failed_in"] == "mask"


def test_too_coarse_and_too_few_tiles(synthetic_slide):
    slide = synthetic_slide("normal")
    coarse = tiles_of(slide, settings_of(tile_mpp=0.25))
    assert (coarse.header["status"], coarse.header["failed_in"]) == (SlideStatus.TOO_COARSE, "tile")
    assert "tile.tile_mpp" in coarse.header["reason"]
    enough = tiles_of(slide)
    few = tiles_of(slide, settings_of(min_tiles=len(enough.coords) + 1))
    assert few.header["status"] == SlideStatus.TOO_FEW_TILES
    assert few.header["reason"].startswith(f"{len(enough.coords)} tiles of 64 level-0 px")
    assert few.coords.shape == (0, 2)
    assert tiles_of(slide, settings_of(min_tiles=len(enough.coords))).header["status"] == SlideStatus.OK


def test_a_chunk_is_written_kept_and_remade(synthetic_slide, tmp_path, monkeypatch):
    settings = settings_of()
    slides = [synthetic_slide(kind) for kind in ("tumor", "empty")]
    rows = [row_of(slide, annotation=slide.annotation) for slide in slides]
    masks_dir, tiles_dir = tmp_path / "masks", tmp_path / "tiles"
    run_mask(rows, masks_dir=masks_dir, status_path=masks_dir / "chunk-0.csv", settings=settings)
    made = []
    original = tile_step.tile_slide

    def counted(tissue, row, *args, **kwargs):
        made.append(row.slide_id)
        return original(tissue, row, *args, **kwargs)

    def run(settings=settings, rows=rows, negative_label="normal"):
        monkeypatch.setattr(tile_step, "tile_slide", counted)
        return run_tile(
            rows,
            masks_dir=masks_dir,
            tiles_dir=tiles_dir,
            status_path=tiles_dir / "chunk-0.csv",
            settings=settings,
            negative_label=negative_label,
        )

    first = run()
    assert read_status(tiles_dir / "chunk-0.csv") == first
    assert [(row.status, row.step, row.tiles > 0) for row in first] == [
        ("ok", "tile", True),
        ("empty", "mask", False),
    ]
    file = read_tiles(tiles_dir / "tumor.h5")
    direct = original(mask_slide(rows[0], settings), rows[0], settings, negative_label="normal")
    assert np.array_equal(file.coords, direct.coords)
    assert np.array_equal(file.tissue_fraction, direct.tissue_fraction)
    assert np.array_equal(file.tile_labels, direct.tile_labels)
    assert {**file.header, "kind": "tiles"} == direct.header
    run()
    assert made == ["tumor", "empty"]
    run(rows=[rows[0]._replace(annotation=None), rows[1]])
    assert made[2:] == ["tumor"]
    (tiles_dir / "empty.h5").write_bytes(b"damaged")
    run(rows=[rows[0]._replace(annotation=None), rows[1]])
    assert made[3:] == ["empty"]
    run(settings=settings_of(overlap_px=16))
    assert made[4:] == ["tumor", "empty"]


def test_the_negative_class_defaults_to_the_first_of_run_classes(synthetic_slide, tmp_path):
    settings = parse_settings(
        {"tile": {"tile_px": 64}, "run": {"classes": ["normal", "tumor"]}}, where="test"
    )
    rows = [row_of(synthetic_slide("normal"))]
    run_mask(rows, masks_dir=tmp_path, status_path=tmp_path / "masks.csv", settings=settings)
    run_tile(
        rows, masks_dir=tmp_path, tiles_dir=tmp_path, status_path=tmp_path / "tiles.csv", settings=settings
    )
    assert set(read_tiles(tmp_path / "normal.h5").tile_labels.tolist()) == {0}


def test_a_missing_mask_is_named_with_its_command(synthetic_slide, tmp_path):
    rows = [row_of(synthetic_slide("normal"))]
    with pytest.raises(BadInput, match=r"normal\.geojson: no such file; make it with: wsi-kd mask"):
        run_tile(
            rows,
            masks_dir=tmp_path,
            tiles_dir=tmp_path,
            status_path=tmp_path / "s.csv",
            settings=settings_of(),
        )


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "tile_mpp", "tiles"),
    [
        ("wsi/CMU-1-Small-Region.svs", 0.5, range(30, 45)),
        ("derived/cmu1_small_4level_aperio.svs", 0.5, range(30, 45)),
        ("derived/os2_ki67_4level_generic_mpp.tif", 0.5, range(8, 13)),
        ("derived/os2_ki67_4level_generic_mpp.tif", 0.2271, range(40, 65)),
    ],
)
def test_tiles_of_real_slides(shared_data, name, tile_mpp, tiles):
    path = shared_data / name
    settings = parse_settings({"tile": {"tile_mpp": tile_mpp}}, where="test")
    row = SlideRow(path.stem, path, "", path.stem, "", None, None, "")
    assert len(tile_slide(mask_slide(row, settings), row, settings).coords) in tiles


@pytest.mark.shared_data
def test_sixteen_pixels_end_as_too_few_tiles_when_outlined_by_hand(tmp_path, shared_data):
    path = shared_data / "faulty/openslide_small.svs"
    outline = '{"type": "Polygon", "coordinates": [[[0, 0], [16, 0], [16, 16], [0, 16], [0, 0]]]}'
    (tmp_path / f"{path.stem}.geojson").write_text(outline)
    settings = parse_settings({"mask": {"edited_dir": str(tmp_path)}}, where="test")
    row = SlideRow(path.stem, path, "", path.stem, "", None, None, "")
    found = tile_slide(mask_slide(row, settings), row, settings)
    assert found.header["status"] == SlideStatus.TOO_FEW_TILES
    assert "16x16 px" in found.header["reason"]
