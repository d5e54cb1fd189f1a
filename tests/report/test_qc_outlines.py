import re
from xml.etree.ElementTree import fromstring

import numpy as np
import shapely

from wsi_kd.report.qc_outlines import LINE_COLORS, MAX_CORNERS, Outline, draw_outlines

MARK = "ab12"


def drawn(*outlines, size_px=(100, 50), ratio=10.0):
    text = draw_outlines(outlines, size_px=size_px, level0_px_per_px=ratio, mark=MARK)
    return fromstring(text), text


def test_outlines_are_in_the_thumbnails_pixels():
    area = shapely.box(100, 50, 300, 250) - shapely.box(150, 100, 200, 150)
    root, text = drawn(Outline("Tissue", area), Outline("Pen", shapely.box(0, 0, 40, 20)))
    assert root.attrib["viewBox"] == "0 0 100 50"
    assert root.attrib["data-mark"] == MARK
    tissue, pen = root
    assert tissue.attrib["stroke"] == LINE_COLORS["tissue"]
    assert (
        pen.attrib == {"stroke": LINE_COLORS["pen"], "d": "M0 0 0 2 4 2 4 0Z"}
        or pen.attrib["d"].count("Z") == 1
    )
    rings = tissue.attrib["d"].split("Z")[:-1]
    corners = [sorted(re.findall(r"[\d.]+ [\d.]+", ring)) for ring in rings]
    assert corners == [["10 25", "10 5", "30 25", "30 5"], ["15 10", "15 15", "20 10", "20 15"]]
    assert "script" not in text


def test_pieces_too_small_to_see_are_left_out():
    root, _ = drawn(
        Outline("Tissue", shapely.box(0, 0, 10, 10)), Outline("Tissue", shapely.box(50, 50, 90, 90))
    )
    assert len(root) == 1
    assert root[0].attrib["d"].count("Z") == 1


def test_a_ragged_mask_is_made_small_enough():
    x = np.arange(4 * 2000) * 0.75
    teeth = np.column_stack([x, np.where(np.arange(len(x)) % 4 < 2, 40 + x % 7, 20)])
    comb = shapely.Polygon([*teeth, (x[-1], 0), (0, 0)])
    assert comb.is_valid
    root, text = drawn(Outline("Tissue", comb), size_px=(6000, 100), ratio=1.0)
    assert 3 < len(re.findall(r"[\d.]+ [\d.]+", root[0].attrib["d"])) <= MAX_CORNERS
    assert len(text) < 60_000


def test_nothing_to_outline():
    root, _ = drawn()
    assert len(root) == 0
    assert drawn(Outline("Tissue", shapely.MultiPolygon()))[0][0].attrib["d"] == ""
