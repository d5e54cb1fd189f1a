import numpy as np
import pytest
from drawn_tissue import DISK, overview
from synthetic import paint_slide

from wsi_kd.demo.defects import INKS, draw_pen
from wsi_kd.tissue.colors import sort_pixels
from wsi_kd.tissue.optical_density import measure_light
from wsi_kd.tissue.pen import PEN_COLORS, find_pen

MPP = 8.0
LINE = ((20, 30), (90, 110), (220, 150))


def find(pixels, *, colors=PEN_COLORS, min_pen_um2=20_000.0):
    glass = measure_light(pixels).glass
    ink = sort_pixels(pixels, glass=glass, pen_colors=colors).ink
    return find_pen(pixels, ink, mpp=MPP, glass=glass, min_pen_um2=min_pen_um2).whole()


def marked(pixels, ink, *, strength=1.2, width_px=22.0):
    return draw_pen(
        pixels, LINE, ink=ink, width_px=width_px, edge_px=2.0, strength=strength, rng=np.random.default_rng(1)
    )


@pytest.mark.parametrize(
    ("ink", "over_tissue"), [("green", 0.8), ("blue", 0.7), ("red", 0.35), ("black", 0.9)]
)
def test_a_stroke_is_found_on_glass_and_most_of_it_over_tissue(ink, over_tissue):
    drawn = marked(overview(), ink)
    found = find(drawn.pixels)
    assert found[drawn.where & ~DISK].mean() > 0.98
    assert found[drawn.where & DISK].mean() > over_tissue
    assert drawn.where[found].mean() > 0.65  # the soft edge and a margin of two pixels go with it


@pytest.mark.parametrize("ink", INKS)
def test_inks_that_nobody_asked_for_are_left_alone(ink):
    assert not find(marked(overview(), ink).pixels, colors=()).any()


@pytest.mark.parametrize(
    "stains",
    [
        {},
        {"eosin": 2.0, "hematoxylin": 0.0},
        {"eosin": 0.3, "hematoxylin": 2.0},
        {"eosin": 0.0, "hematoxylin": 0.3},
        {"eosin": 0.0, "hematoxylin": 0.4, "dab": 1.5},
        {"eosin": 0.0, "hematoxylin": 0.0, "dab": 0.6},
    ],
    ids=["H&E", "eosin alone", "dense nuclei", "pale counterstain", "strong DAB", "weak DAB"],
)
def test_stains_are_no_ink(stains):
    assert not find(overview(**stains)).any()


def test_small_marks_are_no_pen():
    drawn = draw_pen(
        overview(),
        ((100, 90), (104, 90)),
        ink="blue",
        width_px=4.0,
        edge_px=0.5,
        strength=1.5,
        rng=np.random.default_rng(0),
    )
    assert not find(drawn.pixels).any()
    assert not find(marked(overview(), "green").pixels, min_pen_um2=1e6).any()


def test_all_that_is_found_does_not_depend_on_the_strength_of_light():
    """A dimmer lamp dims glass and ink alike."""
    drawn = marked(overview(), "green")
    dimmer = np.round(drawn.pixels * 0.85).astype(np.uint8)
    bright, dim = find(drawn.pixels), find(dimmer)
    assert (bright ^ dim).mean() < 0.005


def test_a_drawn_slide_without_pen_has_none():
    pixels = paint_slide(seed=3, with_tumor=True, stain=1.3)
    assert not find(np.ascontiguousarray(pixels[::16, ::16])).any()


def test_thin_ink_counts_near_sure_ink_alone():
    """A pale streak that leads away from a stroke is left 200 um (25 px) from it, and 2 px of margin."""
    pixels = np.full((180, 240, 3), 245, np.uint8)
    pixels[80:100, 20:60] = (20, 200, 120)
    pixels[86:94, 60:200] = (200, 240, 225)
    found = find(pixels)
    assert found[80:100, 20:60].all()
    assert found[89:91, 60:80].all()
    assert not found[:, 60 + 25 + 2 + 3 :].any()
