"""Which slides and tiles are encoded once more, and that they are encoded as they were."""

import shutil

import numpy as np
import pytest
from precision_runs import CLASSES, FOLDS, make_run
from synthetic import spoil_tile

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import write_features
from wsi_kd.features.tile_units import EmbeddedTiles
from wsi_kd.steps import precision_slides
from wsi_kd.steps.precision_slides import _whole, encode_slides, pick_slides, spread_evenly


@pytest.fixture(scope="module")
def run(synthetic_cohort, tmp_path_factory):
    """A run whose slides each have a staining of their own, which is changed."""
    stain = {"method": "macenko", "fit": "slide", "tiles": 12}
    return make_run(tmp_path_factory.mktemp("stained") / "run", synthetic_cohort, stain=stain)


def picked(run, *, slides=4, tiles=512, manifest=None):
    rows = {row.slide_id: row for row in (manifest or run.manifest).rows}
    candidates = [(rows[slide_id], "test") for slide_id in FOLDS[0].test + FOLDS[0].val]
    return pick_slides(
        candidates, features_dir=run.root / "features", classes=CLASSES, slides=slides, tiles=tiles
    )


def encode(run, slides, **embed):
    settings = run.settings(**embed)
    return encode_slides(slides, settings.embed, settings)


@pytest.mark.parametrize(
    ("total", "wanted", "places"),
    [(10, 4, [0, 2, 5, 7]), (4, 4, [0, 1, 2, 3]), (3, 9, [0, 1, 2]), (1000, 1, [0]), (0, 5, [])],
)
def test_places_are_spread_over_all_of_them(total, wanted, places):
    assert spread_evenly(total, wanted).tolist() == places


def test_classes_take_turns_and_slides_without_label_come_last(run, tmp_path):
    labels = {"a": "tumor", "b": "tumor", "c": "tumor", "d": "normal", "e": "", "f": "normal"}
    made = run.features("case00_0")
    for slide_id in labels:
        write_features(tmp_path / f"{slide_id}.h5", made._replace(slide_id=slide_id))
    rows = [SlideRow(one, tmp_path / one, label, one, "", None, None, "") for one, label in labels.items()]
    asked = {"features_dir": tmp_path, "classes": CLASSES, "tiles": 3}
    found = pick_slides([(row, "val") for row in rows], slides=9, **asked)
    assert "".join(one.row.slide_id for one in found) == "daefbc"
    again = pick_slides([(row, "val") for row in rows], slides=2, **asked)
    assert [one.row.slide_id for one in again] == ["d", "a"]
    for one in found:
        assert (
            one.stored.coords.tolist()
            == made.coords[[0, len(made.coords) // 3, 2 * len(made.coords) // 3]].tolist()
        )
        assert one.tiles_in_file == len(made.coords)
    with pytest.raises(BadInput, match="no slide of this fold can be checked"):
        pick_slides([], slides=1, **asked)


def test_a_few_tiles_encoded_again_are_bit_for_bit_those_of_the_file(run):
    """Stains too: their fit is the one that the header records, not one of the few tiles."""
    slides = picked(run, tiles=7)
    found = encode(run, slides)
    for slide, features in zip(slides, found, strict=True):
        assert slide.stored.header["stain_source"]
        assert features.dtype == np.float32
        assert np.array_equal(features.astype(np.float16), slide.stored.features)
    plain = run._replace(sections={**run.sections, "stain": {}})
    without = [
        one._replace(stored=one.stored._replace(header={**one.stored.header, "stain_source": {}}))
        for one in slides
    ]
    others = encode(plain, without)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in zip(found, others, strict=True))


def test_quality_limits_of_today_leave_no_tile_out(run):
    slides = picked(run, slides=1)
    (features,) = encode(run, slides, min_sharpness=9.0, max_background_fraction=0.0)
    assert len(features) == len(slides[0].stored.coords) > 50


def test_another_encoder_is_refused_before_a_slide_is_opened(run, tmp_path):
    gone = [one._replace(row=one.row._replace(path=tmp_path / "gone.tiff")) for one in picked(run, slides=1)]
    with pytest.raises(
        BadInput, match=r"case00_0: its features were made with encoder distilled:.*stain_texture"
    ):
        encode(run, gone, encoder="stain_texture")
    changed = [
        one._replace(stored=one.stored._replace(header={**one.stored.header, "weights_hash": "w"}))
        for one in gone
    ]
    with pytest.raises(BadInput, match=r"made with weights_hash w, .*give the settings of the run"):
        encode(run, changed)


def with_file(run, path):
    rows = [row._replace(path=path) if row.slide_id == "case01_0" else row for row in run.manifest.rows]
    return run.manifest._replace(rows=tuple(rows))


def test_slides_that_are_gone_or_replaced_are_one_line(run, synthetic_cohort, tmp_path):
    path = tmp_path / "secret name.tiff"
    slides = picked(run, slides=2, manifest=with_file(run, path))
    with pytest.raises(BadInput, match=r"^case01_0: .*no such file.*read from the slide once more") as gone:
        encode(run, slides)
    assert "secret" not in str(gone.value)
    shutil.copy(synthetic_cohort.slides[0].path, path)
    with pytest.raises(BadInput, match=r"not the file that slide 'case01_0' was tiled from"):
        encode(run, slides)


def test_a_tile_that_was_damaged_since_is_one_line(run, synthetic_cohort, tmp_path, monkeypatch):
    path = tmp_path / "s.tiff"
    (original,) = (row.path for row in run.manifest.rows if row.slide_id == "case01_0")
    shutil.copy(original, path)
    spoil_tile(path, 1, 1)
    monkeypatch.setattr(precision_slides, "check_same_slide", lambda header, row: None)
    slides = picked(run, slides=2, manifest=with_file(run, path))
    with pytest.raises(
        BadInput, match=r"^case01_0: \d+ of \d+ tiles cannot be read any more \(.*put the file back"
    ):
        encode(run, slides)


@pytest.mark.parametrize(
    ("largest", "told"), [(7e4, r"beyond float16; set embed\.dtype: float32"), (np.nan, "are not finite")]
)
def test_features_that_the_file_could_not_hold_are_refused(run, largest, told):
    """What embed refuses in float16 is no change of 0.0000, whatever the settings say today."""
    (slide,) = picked(run, slides=1, tiles=2)
    made = EmbeddedTiles(
        np.zeros((2, 6), np.float32), np.ones(2, bool), (), np.zeros(2, np.int64), None, largest
    )
    with pytest.raises(BadInput, match=f"case00_0: encoder .* {told}"):
        _whole(slide, made, embed=run.settings(dtype="float32").embed)
    assert np.array_equal(
        _whole(slide, made._replace(largest=9.0), embed=run.settings().embed), made.features
    )
