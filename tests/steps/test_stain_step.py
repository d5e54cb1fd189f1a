"""Stain normalization on the way from tiles to features: per slide, per cohort, and by `infer`."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.demo.pyramid import write_pyramid
from wsi_kd.features.pixels import PixelsEncoder
from wsi_kd.features.stain.fits import from_numbers
from wsi_kd.features.stain.normalizer import create_normalizer
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import embed_slide, run_embed
from wsi_kd.steps.mask import mask_slide, run_mask
from wsi_kd.steps.stain import run_stain
from wsi_kd.steps.status import read_status
from wsi_kd.steps.tile import run_tile, tile_slide

from synthetic import draw_slide  # isort: skip

EDGE_PX = 64


def settings_of(color="as_stored", **stain):
    return parse_settings(
        {
            "slides": {"color": color},
            "mask": {"mask_mpp": 2.0},
            "tile": {"tile_px": EDGE_PX},
            "stain": {"tiles": 20, **stain},
            "embed": {"encoder": "pixels", "input_px": EDGE_PX},
        },
        where="test",
    )


def row_of(path, slide_id=""):
    name = slide_id or path.stem
    return SlideRow(name, path, "normal", name, "", None, None, "")


def tile_rows(rows, folder, settings):
    """Mask and tile slides below `folder`; return the folder of the tiles."""
    masks, tiles = folder / "masks", folder / "tiles"
    run_mask(rows, masks_dir=masks, status_path=folder / "m.csv", settings=settings)
    run_tile(rows, masks_dir=masks, tiles_dir=tiles, status_path=folder / "t.csv", settings=settings)
    return tiles


class Tiled:
    """Three slides of one tissue, stained weakly, ordinarily and strongly, and their tiles."""

    def __init__(self, folder):
        self.folder = folder
        slides = [
            draw_slide(folder, "normal", name=f"s{number}", seed=1, stain=strength)
            for number, strength in enumerate((0.6, 1.0, 1.5))
        ]
        self.rows = [row_of(slide.path) for slide in slides]
        self.tiles = tile_rows(self.rows, folder, settings_of())

    def embed(self, name, settings, *, stain_path=None):
        folder = self.folder / name
        run_embed(
            self.rows,
            tiles_dir=self.tiles,
            features_dir=folder,
            status_path=folder / "chunk.csv",
            settings=settings,
            stain_path=stain_path,
            workers=0,
        )
        return [read_features(folder / f"{row.slide_id}.h5") for row in self.rows]

    def stain(self, name, settings):
        path = self.folder / name / "stain.json"
        run_stain(self.rows, tiles_dir=self.tiles, stain_path=path, settings=settings)
        return path


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    return Tiled(tmp_path_factory.mktemp("stains"))


@pytest.fixture(scope="module")
def plain(tiled):
    return tiled.embed("plain", settings_of())


def spread(files):
    """Standard deviation between slides of their mean color."""
    return np.std([file.features.reshape(-1, 3).mean(axis=0) for file in files], axis=0).mean()


@pytest.mark.parametrize(("method", "share"), [("macenko", 0.35), ("vahadane", 0.35), ("reinhard", 0.6)])
def test_slides_of_other_strength_come_together(tiled, plain, method, share):
    normalized = tiled.embed(method, settings_of(method=method))
    assert spread(normalized) < share * spread(plain)


def test_what_was_done_to_the_tiles_stands_in_the_header(tiled, plain):
    normalized = tiled.embed("told", settings_of(method="macenko"))
    for before, after in zip(plain, normalized, strict=True):
        numbers, source = after.header["stain"], after.header["stain_source"]
        assert (numbers["method"], numbers["fit"]) == ("macenko", "slide")
        normalize = create_normalizer(
            "macenko", source=from_numbers(source), target=from_numbers(numbers["target"])
        )
        tile = before.features[0].reshape(EDGE_PX, EDGE_PX, 3)
        np.testing.assert_array_equal(normalize(tile).reshape(-1), after.features[0])
        assert after.header["settings"]["stain"]["method"] == "macenko"
        assert before.header["stain"] == before.header["stain_source"] == {}


def test_a_cohorts_fit_is_one_for_all_slides(tiled):
    settings = settings_of(method="macenko", fit="cohort")
    path = tiled.stain("cohort", settings)
    made = read_json(path, remake="")
    assert set(made["slides"]) == {row.slide_id for row in tiled.rows}
    assert len(set(made["slides"].values())) == 1
    normalized = tiled.embed("by_cohort", settings, stain_path=path)
    for file in normalized:
        assert file.header["stain"] == made["stain"]
        assert file.header["stain_source"] == made["stain"]["source"]
    by_slide = tiled.embed("by_slide", settings_of(method="macenko"))
    assert spread(normalized) > 3 * spread(by_slide)  # it leaves slides as different as they are


def test_a_cohorts_fit_must_be_there_and_of_these_settings(tiled, tmp_path):
    settings = settings_of(method="macenko", fit="cohort")
    for path in (None, tmp_path / "absent.json"):
        with pytest.raises(BadInput, match="wsi-kd stain"):
            tiled.embed("refused", settings, stain_path=path)
    path = tiled.stain("other", settings)
    for change in ({"seed": 1}, {"tiles": 3}, {"method": "vahadane"}):
        with pytest.raises(BadInput, match=f"made with another stain.{next(iter(change))}"):
            tiled.embed(
                "refused", settings_of(**{"method": "macenko", "fit": "cohort", **change}), stain_path=path
            )
    path.write_text(path.read_text().replace("strength", "strenght", 1))
    with pytest.raises(BadInput, match="changed or damaged"):
        tiled.embed("refused", settings, stain_path=path)
    with pytest.raises(BadInput, match="needs no fit of the cohort"):
        tiled.stain("none", settings_of())


@pytest.mark.parametrize("fit", ["slide", "cohort"])
def test_a_checkpoints_numbers_give_the_workflows_features(tiled, tmp_path, fit):
    """`infer` knows the slide by another name, and the target's file may be gone."""
    target = tmp_path / "target.png"
    Image.fromarray(tifffile.imread(tiled.rows[2].path)).save(target)
    settings = settings_of(method="macenko", fit=fit, target=str(target))
    path = tiled.stain(f"target_{fit}", settings) if fit == "cohort" else None
    stored = tiled.embed(f"with_target_{fit}", settings, stain_path=path)[0]
    target.unlink()
    row = tiled.rows[0]._replace(slide_id="another-name")
    tiles = tile_slide(mask_slide(row, settings), row, settings)
    again = embed_slide(
        tiles,
        row,
        PixelsEncoder(EDGE_PX),
        settings=settings,
        stain=stored.header["stain"],
    )
    np.testing.assert_array_equal(again.features, stored.features)
    assert again.header["stain_source"] == stored.header["stain_source"]


def test_other_stains_remake_features_and_the_same_keep_them(tiled):
    settings = settings_of(method="macenko")
    first = [file.header["inputs_hash"] for file in tiled.embed("hash", settings)]
    marks = [path.stat().st_mtime_ns for path in sorted((tiled.folder / "hash").glob("*.h5"))]
    assert [file.header["inputs_hash"] for file in tiled.embed("hash", settings)] == first
    assert marks == [path.stat().st_mtime_ns for path in sorted((tiled.folder / "hash").glob("*.h5"))]
    other = [
        file.header["inputs_hash"] for file in tiled.embed("hash", settings_of(method="macenko", seed=3))
    ]
    assert not set(first) & set(other)


def test_a_slide_of_one_stain_stays_as_it_is_and_says_so(tmp_path):
    rng = np.random.default_rng(0)
    eosin = np.clip(cv2.GaussianBlur(rng.normal(0, 1, (512, 512)), (0, 0), 3) * 8 + 0.8, 0.2, 1.5)
    eosin[:64] = 0
    light = 240 * np.exp(-eosin[..., None] * np.array([0.15, 1.0, 0.6])) + rng.normal(0, 1.5, (512, 512, 3))
    path = tmp_path / "eosin.tif"
    write_pyramid(path, np.clip(light, 0, 255).astype(np.uint8), mpp=0.5)
    row, settings = row_of(path), settings_of(method="macenko")
    tile_rows([row], tmp_path, settings)
    made = {}
    for name, chosen in (("plain", settings_of()), ("normalized", settings)):
        run_embed(
            [row],
            tiles_dir=tmp_path / "tiles",
            features_dir=tmp_path / name,
            status_path=tmp_path / f"{name}.csv",
            settings=chosen,
        )
        made[name] = read_features(tmp_path / name / "eosin.h5")
    np.testing.assert_array_equal(made["plain"].features, made["normalized"].features)
    (status,) = read_status(tmp_path / "normalized.csv")
    assert status.status == SlideStatus.OK
    assert status.reason.startswith("stains not normalized: one stain alone")
    assert made["normalized"].header["stain_source"] == {}


def test_a_cohort_without_tiles_is_told_and_stops_nothing(tmp_path):
    slide = draw_slide(tmp_path, "empty")
    row, settings = row_of(slide.path), settings_of(method="macenko", fit="cohort")
    tile_rows([row], tmp_path, settings)
    path = tmp_path / "stain.json"
    made = run_stain([row], tiles_dir=tmp_path / "tiles", stain_path=path, settings=settings)
    assert made["note"] == "no slide has tiles that can be read"
    assert made["left_out"] == {"empty": "empty"}
    statuses = run_embed(
        [row],
        tiles_dir=tmp_path / "tiles",
        features_dir=tmp_path / "f",
        status_path=tmp_path / "f.csv",
        settings=settings,
        stain_path=path,
    )
    assert [status.status for status in statuses] == [SlideStatus.EMPTY]


def test_a_target_that_cannot_serve_is_named(tiled, tmp_path):
    white = tmp_path / "white.png"
    Image.new("RGB", (256, 256), (243, 243, 243)).save(white)
    text = tmp_path / "text.svs"
    text.write_text("no slide")
    for target, told in ((white, "0 stained pixels"), (text, "text.svs: "), (tmp_path / "a", "no such file")):
        with pytest.raises(BadInput, match=f"stain.target .*{told}"):
            tiled.embed("refused", settings_of(method="macenko", target=str(target)))


def test_a_target_gives_its_own_stains(tiled):
    """Slides brought to the strongest of them look like it."""
    strongest = tiled.rows[2].path
    normalized = tiled.embed("strongest", settings_of(method="macenko", target=str(strongest)))
    raw = [file.features.reshape(-1, 3).mean(axis=0) for file in tiled.embed("raw", settings_of())]
    assert np.abs(raw[0] - raw[2]).max() > 40
    for file in normalized:
        assert np.abs(file.features.reshape(-1, 3).mean(axis=0) - raw[2]).max() < 10


def exchanged_profile():
    from PIL import ImageCms

    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def with_profile(folder, profile):
    """A slide whose pixels are stored blue first, with a profile; and the same slide stored red first."""
    pixels = tifffile.imread(draw_slide(folder, "normal").path)
    for name, stored, icc in (("profile", pixels[..., ::-1], profile), ("truth", pixels, None)):
        tifffile.imwrite(
            folder / f"{name}.tif",
            np.ascontiguousarray(stored),
            tile=(256, 256),
            photometric="rgb",
            iccprofile=icc,
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
        )
    return row_of(folder / "profile.tif"), row_of(folder / "truth.tif")


def test_srgb_reaches_mask_and_features(tmp_path):
    """Red and blue stand exchanged in the file, and its profile says so."""
    row, truth = with_profile(tmp_path, exchanged_profile())
    shown = {}
    for name, chosen, settings in (
        ("truth", truth, settings_of()),
        ("stored", row, settings_of()),
        ("srgb", row, settings_of(color="srgb")),
    ):
        tissue = mask_slide(chosen, settings)
        tiles = tile_slide(tissue, chosen, settings)
        file = embed_slide(tiles, chosen, PixelsEncoder(EDGE_PX), settings=settings)
        shown[name] = (tissue.tissue, file.features.reshape(-1, 3).mean(axis=0))
    assert np.abs(shown["srgb"][1] - shown["truth"][1]).max() < 2
    assert np.abs(shown["stored"][1] - shown["truth"][1][::-1]).max() < 2
    overlap = shown["srgb"][0].intersection(shown["truth"][0]).area / shown["truth"][0].area
    assert overlap > 0.97


def test_a_broken_profile_ends_the_slide_with_a_reason(tmp_path):
    row, _ = with_profile(tmp_path, b"no profile" * 50)
    broken = mask_slide(row, settings_of(color="srgb")).header
    assert broken["status"] == SlideStatus.UNREADABLE
    assert "slides.color: as_stored" in broken["reason"]
    assert mask_slide(row, settings_of()).header["status"] == SlideStatus.OK
