import numpy as np
import pytest
import shapely
import torch
from drawn_defects import plain_slide, slide_row, with_pen
from PIL import Image
from synthetic import PIECES, ellipse
from torch import nn

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.demo.defects import draw_bubble, draw_fold
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.drawings import drawing_faults
from wsi_kd.steps.mask import mask_slide

STROKE = shapely.LineString([(300, 60), (300, 700)]).buffer(100)
STROKE_MM2 = STROKE.area * 0.25e-6
TISSUE = shapely.union_all([ellipse(piece) for piece in PIECES])


def settings_of(**mask):
    return parse_settings({"mask": mask}, where="test")


@pytest.fixture(scope="module")
def penned(tmp_path_factory):
    return slide_row(tmp_path_factory.mktemp("pen"), with_pen(plain_slide()).pixels)


def test_pen_is_taken_out_of_the_tissue_and_measured(penned):
    found = mask_slide(penned, settings_of())
    assert found.tissue.intersection(STROKE.buffer(-10)).area < 0.02 * STROKE.area
    outside = TISSUE - STROKE.buffer(60)
    assert found.tissue.intersection(outside).area > 0.93 * outside.area
    assert 1 < found.header["pen_mm2"] / STROKE_MM2 < 1.5  # with the soft edge and a margin
    assert np.abs(np.subtract(found.header["glass_rgb"], (243, 241, 245))).max() <= 2
    assert found.header["fold_mm2"] == 0.0
    kept = mask_slide(penned, settings_of(pen_colors=["blue", "red"]))
    assert kept.header["pen_mm2"] == 0.0
    assert kept.tissue.intersection(STROKE).area > 0.5 * STROKE.intersection(TISSUE).area


FOLD = ((170, 270), (430, 490))


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    pixels = draw_fold(plain_slide(), FOLD, width_px=80.0, glass=(243.0, 241.0, 245.0), layers=4.0).pixels
    return slide_row(tmp_path_factory.mktemp("fold"), pixels, mpp=2.0)


def test_folds_are_measured_and_removed_when_asked(folded):
    band = shapely.LineString(FOLD).buffer(40)
    kept, removed = (mask_slide(folded, settings_of(remove_folds=remove)) for remove in (False, True))
    assert kept.header["fold_mm2"] == removed.header["fold_mm2"]
    assert 0.5 < kept.header["fold_mm2"] / (band.area * 4e-6) < 1.2
    assert [mark.name for mark in kept.marks] == ["Fold"]
    assert kept.tissue.intersection(band).area > 0.98 * band.area
    assert removed.tissue.intersection(band).area < 0.5 * band.area
    lost_mm2 = kept.header["tissue_mm2"] - removed.header["tissue_mm2"]
    assert lost_mm2 == pytest.approx(kept.header["fold_mm2"], rel=0.1)


def test_the_rim_of_a_bubble_is_taken_out(tmp_path):
    row = slide_row(
        tmp_path,
        draw_bubble(plain_slide(stain=0.3), center=(512.0, 400.0), radius_px=330.0, sigma_px=2.0).pixels,
        mpp=2.0,
    )
    rim = shapely.Point(512, 400).buffer(330).exterior.buffer(16)
    without, found = (mask_slide(row, settings_of(max_edge_um=width)) for width in (0.0, 140.0))
    assert without.header["edge_mm2"] == 0.0
    assert found.header["edge_mm2"] > 0.5 * rim.area * 4e-6
    assert found.tissue.intersection(rim).area < 0.3 * without.tissue.intersection(rim).area


@pytest.mark.parametrize("ink", ["green", "blue", "red", "black"])
def test_pen_alone_is_an_empty_slide(tmp_path, ink):
    row = slide_row(tmp_path, with_pen(plain_slide(with_tissue=False), ink=ink).pixels)
    found = mask_slide(row, settings_of())
    assert (found.header["status"], found.tissue.is_empty) == ("empty", True)
    assert "is pen" in found.header["reason"]
    assert 1 < found.header["pen_mm2"] / STROKE_MM2 < 1.5  # with the soft edge and a margin


def given(folder, values, name="slide.png"):
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / name)
    return settings_of(edited_dir=str(folder))


def test_a_mask_as_picture_replaces_segmentation(penned, tmp_path):
    values = np.zeros((24, 32), np.uint8)
    values[4:12, 8:16] = 3  # 32 level-0 px a pixel
    settings = given(tmp_path / "edited", values)
    found = mask_slide(penned, settings)
    assert shapely.equals(found.tissue, shapely.box(256, 128, 512, 384))
    assert (found.header["mask_source"], found.header["edited_file"]) == ("edited", "slide.png")
    assert found.header["pen_mm2"] > 0.05  # measured, and left to the user
    assert found.header["fold_mm2"] is None
    values[0, 0] = 1
    other = mask_slide(penned, given(tmp_path / "edited", values))
    assert other.header["inputs_hash"] != found.header["inputs_hash"]


def test_a_mask_that_does_not_fit_or_cannot_be_read_stops_the_run(penned, tmp_path):
    with pytest.raises(BadInput, match=r"slide\.png: a mask of 32x32 px; the slide has 1024x768"):
        mask_slide(penned, given(tmp_path / "edited", np.ones((32, 32), np.uint8)))
    (tmp_path / "edited" / "slide.png").write_bytes(b"")
    (fault,) = drawing_faults([penned], settings_of(edited_dir=str(tmp_path / "edited")), negative_label=None)
    assert "not readable as a mask" in fault


def test_a_mask_without_tissue_is_an_empty_slide(penned, tmp_path):
    found = mask_slide(penned, given(tmp_path / "edited", np.zeros((24, 32), np.uint8)))
    assert found.header["status"] == "empty"
    assert "slide.png covers nothing" in found.header["reason"]


class ByColor(nn.Module):
    """Background, tissue, pen by thresholds on (red, green), normalized pixels 0-1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        red, green = pixels[:, 0:1], pixels[:, 1:2]
        pen = green - red - 0.1
        return torch.cat([10 * (green - 0.9), 10 * (0.9 - green), 100 * pen], dim=1)


@pytest.fixture
def by_network(tmp_path):
    with pytest.MonkeyPatch.context():
        path = tmp_path / "network.pt"
        torch.jit.script(ByColor()).save(str(path))
    return {
        "source": "network",
        "network": str(path),
        "network_classes": ["background", "tissue", "pen"],
        "network_mpp": 2.0,
        "network_tile_px": 128,
        "network_margin_px": 16,
        "network_mean": [0, 0, 0],
        "network_std": [1, 1, 1],
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_finds_the_tissue_and_its_classes_are_measured(penned, by_network):
    found = mask_slide(penned, settings_of(**by_network))
    outside = TISSUE - STROKE.buffer(40)
    assert found.tissue.intersection(outside).area > 0.9 * outside.area
    dyed = TISSUE.intersection(STROKE.buffer(-20))
    assert found.tissue.intersection(dyed).area < 0.75 * dyed.area  # over dark nuclei it looks like tissue
    assert found.header["mask_source"] == "network"
    assert found.header["pen_mm2"] == found.header["class_mm2"]["pen"]
    assert 0.5 < found.header["pen_mm2"] / STROKE_MM2 < 1.05
    assert found.header["fold_mm2"] is None
    assert len(found.header["network_sha256"]) == 64


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_where_the_network_lies_does_not_matter_what_is_in_it_does(penned, by_network, tmp_path):
    first = mask_slide(penned, settings_of(**by_network)).header["inputs_hash"]
    content = (tmp_path / "network.pt").read_bytes()
    (tmp_path / "moved.pt").write_bytes(content)
    moved = settings_of(**{**by_network, "network": str(tmp_path / "moved.pt")})
    assert mask_slide(penned, moved).header["inputs_hash"] == first
    torch.jit.script(nn.Conv2d(3, 3, 1)).save(str(tmp_path / "moved.pt"))
    assert mask_slide(penned, moved).header["inputs_hash"] != first


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_tissue_the_network_s_slide_is_empty(by_network, tmp_path):
    row = slide_row(tmp_path, plain_slide(with_tissue=False))
    found = mask_slide(row, settings_of(**by_network))
    assert found.header["status"] == "empty"
    assert "the network sees 0 mm2" in found.header["reason"]


def test_settings_without_a_network_or_with_too_wide_a_margin_are_refused():
    with pytest.raises(BadInput, match="source network needs network"):
        settings_of(source="network")
    with pytest.raises(BadInput, match=r"network_std .* expected numbers above 0"):
        settings_of(network_std=[0.2, 0.0, 0.2])
    with pytest.raises(BadInput, match="leaves nothing of network_tile_px 100"):
        settings_of(network_margin_px=50, network_tile_px=100)
    with pytest.raises(BadInput, match="names 'tissue' once"):
        settings_of(network_classes=["background", "fold"])


def test_fluorescence_has_no_pen(synthetic_slide):
    slide = synthetic_slide("dark_field")
    row = SlideRow("dark", slide.path, "", "dark", "", None, None, "")
    header = mask_slide(row, settings_of()).header
    assert (header["status"], header["pen_mm2"], header["glass_rgb"]) == ("empty", None, [255, 255, 255])
