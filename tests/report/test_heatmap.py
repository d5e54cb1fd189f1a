"""Heatmaps: area averaging against hand-worked values, the picture against the map it shows."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.mappings import MAPPINGS, MappedTiles
from wsi_kd.report.canvas import OUTLINE_COLOR, margins, scale_bar
from wsi_kd.report.heatmap import draw_heatmap, render_heatmap, render_slide
from wsi_kd.report.overlay import COLORMAPS, OPACITY, Window, palette, place_tiles, score_map, window_map

TITLE_PX, _, SIDE_PX, *_ = margins((500, 600))


def on_map(coords, scores, **changes):
    place = {"tile_level0_px": 100.0, "level0_px_per_px": 100.0, "origin": (0, 0), "shape": (3, 4)} | changes
    return score_map(np.array(coords, np.int64).reshape(-1, 2), np.array(scores, np.float64), **place)


def test_a_tile_on_the_pixel_grid_fills_its_pixel_alone():
    averages = on_map([[200, 100]], [0.7])
    assert averages.dtype == np.float32
    assert averages[1, 2] == np.float32(0.7)
    assert np.isnan(averages).sum() == 11


def test_overlapping_tiles_are_averaged_by_their_area_in_the_pixel():
    # In pixel (0, 1), tile A covers columns 100-150 of rows 0-100, tile B columns 125-200 of rows 0-50.
    averages = on_map([[50, 0], [125, -50]], [1.0, 0.2])
    area_a, area_b = 50 * 100, 75 * 50
    assert averages[0, 1] == pytest.approx((1.0 * area_a + 0.2 * area_b) / (area_a + area_b), abs=1e-6)
    assert averages[0, 0] == pytest.approx(1.0)
    assert averages[0, 2] == pytest.approx(0.2)
    assert np.isnan(averages[1:]).all()


def test_a_fractional_tile_edge_is_not_rounded():
    averages = on_map([[0, 0], [0, 0]], [0.0, 1.0], tile_level0_px=150.5)
    assert averages[1, 1] == pytest.approx(0.5)
    assert np.isfinite(averages).sum() == 4
    # A second tile of 0.5 px width in pixel (0, 2) still decides that pixel.
    assert on_map([[0, 0]], [0.3], tile_level0_px=200.5)[0, 2] == pytest.approx(0.3)


def test_the_origin_shifts_the_map_and_tiles_outside_are_cut():
    averages = on_map([[1000, 2000], [900, 2000], [1350, 2250]], [0.1, 0.9, 0.5], origin=(1000, 2000))
    assert averages[0, 0] == pytest.approx(0.1)
    assert averages[2, 3] == pytest.approx(0.5)
    assert np.isfinite(averages).sum() == 2


def test_equal_scores_give_a_constant_map_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    coords = rng.integers(0, 300, (200, 2))
    assert np.nanmax(np.abs(on_map(coords, np.full(200, 0.37)) - np.float32(0.37))) < 1e-7
    scores = rng.random(200)
    order = rng.permutation(200)
    np.testing.assert_allclose(on_map(coords, scores), on_map(coords[order], scores[order]), atol=1e-6)


def test_the_map_agrees_with_a_count_over_level0_pixels():
    rng = np.random.default_rng(1)
    coords, scores = rng.integers(-20, 90, (25, 2)), rng.random(25)
    sums, areas = np.zeros((60, 80)), np.zeros((60, 80))
    for (x, y), score in zip(coords, scores, strict=True):
        rows, columns = slice(max(y, 0), max(y + 30, 0)), slice(max(x, 0), max(x + 30, 0))
        sums[rows, columns] += score
        areas[rows, columns] += 1
    pooled = [part.reshape(6, 10, 8, 10).sum(axis=(1, 3)) for part in (sums, areas)]
    averages = on_map(coords, scores, tile_level0_px=30.0, level0_px_per_px=10.0, shape=(6, 8))
    covered = pooled[1] > 0
    np.testing.assert_allclose(averages[covered], (pooled[0][covered] / pooled[1][covered]), rtol=1e-6)
    assert np.isnan(averages[~covered]).all()


def test_no_tiles_and_nan_scores_leave_the_map_empty():
    assert np.isnan(on_map([], [])).all()
    averages = on_map([[0, 0], [100, 0]], [np.nan, 0.4])
    assert np.isnan(averages[0, 0])
    assert averages[0, 1] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("um_per_px", "width_px", "expected"),
    [
        (8.0, 900, (125.0, "1 mm")),
        (1.0, 900, (200.0, "200 µm")),
        (8.0, 3000, (625.0, "5 mm")),
        (0.25, 100, (20.0, "5 µm")),
    ],
)
def test_the_scale_bar_is_round_and_at_most_a_quarter_wide(um_per_px, width_px, expected):
    assert scale_bar(um_per_px, width_px=width_px) == expected


def mapped(scores, key="student_probability", *, vmin=0.0, vmax=1.0):
    what = MAPPINGS[key]
    return MappedTiles(
        key, what.name, what.unit, np.array(scores, np.float64), vmin=vmin, vmax=vmax, meaning=what.meaning
    )


def picture(**changes):
    arguments = {
        "pixels": np.full((500, 600, 3), 255, np.uint8),
        "coords": np.array([[1000, 0], [1200, 0]], np.int64),
        "mapped": mapped([0.0, 1.0]),
        "tile_level0_px": 200.0,
        "level0_px_per_px": 2.0,
        "origin": (1000, 0),
        "title": "slide_1",
        "slide_mpp": 0.5,
    }
    return arguments | changes


def blended(value, colormap="viridis"):
    return np.rint((OPACITY * np.array(colormaps[colormap](value)[:3]) + (1 - OPACITY)) * 255)


def test_the_picture_shows_each_score_in_its_color_at_its_place():
    image = render_heatmap(**picture()).astype(int)
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 50] - blended(0.0)).max() <= 1
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 150] - blended(1.0)).max() <= 1
    assert (image[TITLE_PX + 50, SIDE_PX + 250] == 255).all()
    # The border between the two tiles lies exactly at thumbnail column 100.
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 99] - blended(0.0)).max() <= 1
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 100] - blended(1.0)).max() <= 1


def test_the_colors_run_between_the_mappings_ends():
    attention = mapped([2.0, 4.0], "attention_softmax", vmax=4.0)
    image = render_heatmap(**picture(mapped=attention)).astype(int)
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 50] - blended(0.5)).max() <= 1
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 150] - blended(1.0)).max() <= 1
    beyond = render_heatmap(**picture(mapped=attention._replace(vmin=2.5, vmax=3.0))).astype(int)
    assert np.abs(beyond[TITLE_PX + 50, SIDE_PX + 50] - blended(0.0)).max() <= 1
    assert np.abs(beyond[TITLE_PX + 50, SIDE_PX + 150] - blended(1.0)).max() <= 1


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_each_colormap_gets_lighter_with_the_score_and_colors_the_tiles(colormap):
    lightness = palette(colormap) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).all()
    image = render_heatmap(**picture(colormap=colormap)).astype(int)
    assert np.abs(image[TITLE_PX + 50, SIDE_PX + 150] - blended(1.0, colormap)).max() <= 1


def test_an_unknown_colormap_names_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown colormap 'jet'; known: cividis, viridis"):
        render_heatmap(**picture(colormap="jet"))


def test_a_window_shows_what_the_whole_map_shows_there():
    rng = np.random.default_rng(2)
    coords, scores = rng.integers(-200, 4000, (300, 2)), rng.random(300)
    scores[::7] = np.nan
    place = {"tile_level0_px": 130.5, "level0_px_per_px": 12.5}
    whole = score_map(coords, scores, **place, origin=(-50, 30), shape=(300, 280))
    tiles = place_tiles(coords, scores, tile_level0_px=130.5)
    for row, column in ((0, 0), (64, 128), (290, 270)):
        part = whole[row : row + 64, column : column + 64]
        origin = (-50 + column * 12.5, 30 + row * 12.5)
        np.testing.assert_allclose(window_map(tiles, Window(origin, 12.5, part.shape)), part, atol=1e-6)


def test_a_small_thumbnail_is_enlarged_and_the_tiles_with_it():
    small = picture(pixels=np.full((30, 40, 3), 255, np.uint8), level0_px_per_px=20.0)
    image = render_heatmap(**small).astype(int)
    assert image.shape[1] >= 480
    assert np.abs(image[TITLE_PX + 10, SIDE_PX + 60] - blended(0.0)).max() <= 1
    assert np.abs(image[TITLE_PX + 10, SIDE_PX + 180] - blended(1.0)).max() <= 1


def test_the_same_heatmap_is_the_same_file(tmp_path):
    draw_heatmap(tmp_path / "a.png", **picture())
    draw_heatmap(tmp_path / "b.png", **picture())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), render_heatmap(**picture()))
        assert image.text["Description"].startswith("student probability (student_probability)")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_mapping_without_any_tile_leaves_the_thumbnail_bare(mapping):
    image = render_heatmap(**picture(mapped=mapped([], mapping), coords=np.empty((0, 2), np.int64)))
    assert (image[TITLE_PX : TITLE_PX + 500, SIDE_PX : SIDE_PX + 600] == 255).all()


@pytest.mark.parametrize("title", ["$\\frac{", "片\u202eid\n\x00" + "x" * 300, "\ud800", ""])
def test_any_title_and_any_class_can_be_drawn(title):
    named = mapped([0.0, 1.0])._replace(name=f"student probability: {title}")
    assert render_heatmap(**picture(title=title, mapped=named)).shape == render_heatmap(**picture()).shape


def test_an_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="heatmap"):
        draw_heatmap(tmp_path / "file" / "heatmap.png", **picture())


def test_the_slide_itself_keeps_its_colors_and_shows_the_outline():
    pixels = np.full((500, 600, 3), (200, 100, 150), np.uint8)
    outline = np.zeros((500, 600), bool)
    outline[100:200, 300:400] = True
    image = render_slide(pixels, title="slide_1", um_per_px=1.0, outline=outline)
    plain = render_slide(pixels, title="slide_1", um_per_px=1.0)
    assert image.shape == render_heatmap(**picture()).shape
    inside = image[TITLE_PX : TITLE_PX + 500, SIDE_PX : SIDE_PX + 600]
    assert (plain[TITLE_PX + 1 : TITLE_PX + 499, SIDE_PX + 1 : SIDE_PX + 599] == (200, 100, 150)).all()
    changed = np.argwhere((inside != (200, 100, 150)).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([100, 300], abs=3)
    assert changed.max(axis=0) == pytest.approx([199, 399], abs=3)
    assert (inside[110:190, 310:390] == (200, 100, 150)).all()
    np.testing.assert_allclose(inside[100, 350] / 255, to_rgb(OUTLINE_COLOR), atol=0.2)


def test_an_enlarged_picture_keeps_its_scale():
    # 40 x 10 um across is 400 um; drawn 480 px wide, the longest bar below a quarter is 100 um: 120 px
    small = picture(pixels=np.full((30, 40, 3), 255, np.uint8), level0_px_per_px=20.0)
    slide = render_slide(small["pixels"], title="slide_1", um_per_px=0.5 * 20.0)
    around = margins((360, 480))
    footers = [image[-around.footer_px :].astype(int) for image in (render_heatmap(**small), slide)]
    for footer in footers:
        dark = footer.sum(axis=2) < 100
        middle = around.side_px + 60
        bar = dark[dark[:, middle].argmax()]
        assert abs(int(np.argmin(bar[middle:])) - 60) <= 2
        assert abs(int(np.argmin(bar[middle::-1])) - 60) <= 2
