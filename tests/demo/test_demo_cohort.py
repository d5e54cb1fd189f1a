"""The cohort as planned, and a small one as drawn."""

import csv
import json
from collections import Counter

import numpy as np
import openslide
import pytest
import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.demo.cohort import draw_cohort, plan_cohort
from wsi_kd.demo.slide import draw_slide


def test_plan_of_the_default_cohort():
    plans = plan_cohort(slides=44, seed=0)
    good = [plan for plan in plans if not plan.oddity]
    assert len(plans) == len({plan.slide_id for plan in plans}) == 44
    assert [plan.oddity for plan in plans[-4:]] == ["empty", "missing_mpp", "truncated", "transparent"]
    assert Counter(plan.label for plan in good) == {"normal": 20, "tumor": 20}
    slides_a_case = Counter(plan.case_id for plan in good)
    assert Counter(slides_a_case.values()) == {1: 16, 2: 12}
    assert all(len({p.label for p in good if p.case_id == case}) == 1 for case in slides_a_case)


def test_site_says_nothing_of_the_label():
    plans = [plan for plan in plan_cohort(slides=44, seed=0) if not plan.oddity]
    for site in ("north", "south"):
        labels = Counter(plan.label for plan in plans if plan.site == site)
        assert labels["normal"] == labels["tumor"] > 0


def test_stain_is_drawn_without_the_label_and_anew_by_seed():
    first, again, other = (plan_cohort(slides=44, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert all(a.stain != b.stain for a, b in zip(first, other, strict=True))
    assert len({plan.stain for plan in first}) == 44


@pytest.mark.parametrize(
    ("arguments", "told"), [({"slides": 7}, "at least 8"), ({"slides": 45}, "even number")]
)
def test_impossible_numbers_of_slides(tmp_path, arguments, told):
    with pytest.raises(BadInput, match=told):
        draw_cohort(tmp_path, **arguments)


def test_no_workers(tmp_path):
    with pytest.raises(BadInput, match="workers: expected at least 1, found 0"):
        draw_cohort(tmp_path, workers=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    manifest = draw_cohort(folder, slides=8, seed=3, workers=2)
    with manifest.open() as handle:
        return folder, {row["slide_id"]: row for row in csv.DictReader(handle)}


def oddly(drawn, oddity):
    folder, rows = drawn
    slide_id = next(plan.slide_id for plan in plan_cohort(slides=8, seed=3) if plan.oddity == oddity)
    return folder / rows[slide_id]["path"]


@pytest.mark.slow
def test_manifest_names_files_that_exist(drawn):
    folder, rows = drawn
    assert len(rows) == 8
    for row in rows.values():
        assert (folder / row["path"]).is_file()
        assert bool(row["annotation"]) == (row["label"] == "tumor")
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.slow
def test_drawing_again_gives_the_same_bytes(drawn, tmp_path):
    folder, rows = drawn
    plan = plan_cohort(slides=8, seed=3)[2]
    again = draw_slide(plan, tmp_path)
    assert file_hash(again.slide) == file_hash(folder / rows[plan.slide_id]["path"])
    assert again.annotation.read_text() == (folder / rows[plan.slide_id]["annotation"]).read_text()


@pytest.mark.slow
def test_good_slides_open_with_three_levels_and_half_a_micrometer(drawn):
    folder, rows = drawn
    for row in list(rows.values())[:4]:
        with openslide.OpenSlide(folder / row["path"]) as slide:
            assert slide.level_count == 3
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)


@pytest.mark.slow
def test_annotated_tumor_holds_more_hematoxylin_than_the_slide_around_it(drawn):
    folder, rows = drawn
    row = next(row for row in rows.values() if row["label"] == "tumor")
    features = json.loads((folder / row["annotation"]).read_text())["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"Tumor"}
    tumor = shapely.union_all([shapely.geometry.shape(feature["geometry"]) for feature in features])
    with openslide.OpenSlide(folder / row["path"]) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 2, slide.level_dimensions[2]))[..., :3].astype(float)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    inside = shapely.contains_xy(tumor, 16 * x + 8, 16 * y + 8)
    red = -np.log(np.maximum(pixels[..., 0], 1) / np.percentile(pixels[..., 0], 95))
    tissue = pixels.std(axis=-1) > 6
    assert red[inside].mean() > 1.3 * red[tissue & ~inside].mean()


@pytest.mark.slow
def test_odd_slides_are_odd_in_the_way_they_say(drawn):
    with openslide.OpenSlide(oddly(drawn, "missing_mpp")) as slide:
        assert "openslide.mpp-x" not in slide.properties
    with openslide.OpenSlide(oddly(drawn, "empty")) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 2, slide.level_dimensions[2]))[..., :3]
        assert np.ptp(pixels.mean(axis=-1)) < 60
        assert (pixels.std(axis=(0, 1)) < 2).all()
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(oddly(drawn, "truncated"))


@pytest.mark.slow
def test_bare_glass_of_the_transparent_slide_has_alpha_zero_in_every_level(drawn):
    with openslide.OpenSlide(oddly(drawn, "transparent")) as slide:
        shares = []
        for level, size in enumerate(slide.level_dimensions):
            alpha = np.asarray(slide.read_region((0, 0), level, size))[..., 3]
            shares.append((alpha == 0).mean())
            assert alpha[0, 0] == 0
        assert 0.2 < shares[0] < 0.8
        assert shares == pytest.approx([shares[0]] * 3, abs=0.02)
