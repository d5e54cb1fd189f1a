import numpy as np
import pytest
import shapely

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.drawings import drawing_faults, frame_of
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.tile import tile_slide
from wsi_kd.tissue.annotations import FORMATS, read_drawing, write_drawing

CENTER_NM = (1_500_000.0, -2_500_000.0)


def settings_of(**tile):
    return parse_settings({"tile": {"tile_px": 64, **tile}}, where="test")


def row_of(slide, annotation):
    return SlideRow(slide.path.stem, slide.path, slide.label, slide.path.stem, "", None, annotation, "")


@pytest.fixture
def tissue(synthetic_slide):
    """Mask of a slide whose bounds do not start at 0, with a place on the glass."""
    slide = synthetic_slide("bounds")
    found = mask_slide(row_of(slide, slide.annotation), settings_of())
    assert found.header["center_nm"] is None
    return found._replace(header={**found.header, "center_nm": list(CENTER_NM)})


def rewritten(slide, tissue, folder, file_format):
    frame = frame_of(tissue.header)
    drawn = read_drawing(slide.annotation, frame=frame).annotations
    path = folder / f"{file_format}.xml"
    path.write_text(write_drawing(drawn, file_format=file_format, frame=frame).text)
    return path


@pytest.mark.parametrize("file_format", sorted(FORMATS))
@pytest.mark.parametrize("rule", ["area", "center"])
def test_every_format_labels_the_same_tiles(tmp_path, synthetic_slide, tissue, file_format, rule):
    slide, settings = synthetic_slide("bounds"), settings_of(label_rule=rule)
    labels = [
        tile_slide(tissue, row_of(slide, drawn), settings, negative_label="normal").tile_labels
        for drawn in (slide.annotation, rewritten(slide, tissue, tmp_path, file_format))
    ]
    assert labels[0].sum() > 5
    assert np.array_equal(*labels)


def test_the_center_rule_labels_tiles_by_their_middle(synthetic_slide, tissue):
    slide = synthetic_slide("bounds")
    found = tile_slide(tissue, row_of(slide, slide.annotation), settings_of(label_rule="center"))
    middles = shapely.points(found.coords + found.header["tile_level0_px"] / 2)
    assert found.tile_labels.tolist() == shapely.intersects(slide.tumor, middles).astype(int).tolist()
    by_area = tile_slide(tissue, row_of(slide, slide.annotation), settings_of())
    assert found.tile_labels.sum() != by_area.tile_labels.sum()
    assert found.header["inputs_hash"] != by_area.header["inputs_hash"]


def test_ndpa_for_a_slide_without_a_place_on_the_glass_is_bad_input(tmp_path, synthetic_slide, tissue):
    slide = synthetic_slide("bounds")
    path = rewritten(slide, tissue, tmp_path, "ndpa")
    lost = tissue._replace(header={**tissue.header, "center_nm": None})
    with pytest.raises(BadInput, match=r"ndpa\.xml: NDPA counts from the middle of the glass"):
        tile_slide(lost, row_of(slide, path), settings_of(), negative_label="normal")
    assert drawing_faults([row_of(slide, path)], settings_of(), negative_label="normal") == ()


def test_subclasses_of_a_positive_class_count(tmp_path, synthetic_slide, tissue):
    slide = synthetic_slide("bounds")
    text = slide.annotation.read_text().replace('"Tumor"', '"Tumor: Positive"')
    path = tmp_path / "sub.geojson"
    path.write_text(text)
    plain, derived = (
        tile_slide(tissue, row_of(slide, drawn), settings_of(), negative_label="normal").tile_labels
        for drawn in (slide.annotation, path)
    )
    assert np.array_equal(plain, derived)
