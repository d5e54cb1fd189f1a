"""The written files as OpenSlide sees them."""

import hashlib

import numpy as np
import openslide
import pytest

from wsi_kd.demo.pyramid import write_pyramid

WIDTH, HEIGHT = 1024, 768


@pytest.fixture(scope="module")
def pixels():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x // 5, y // 4, 255 - x // 5], axis=-1).clip(0, 255).astype(np.uint8)


def alpha(slide, level, *, corner=(0, 0)):
    return np.asarray(slide.read_region(corner, level, slide.level_dimensions[level]))[..., 3]


@pytest.mark.parametrize(
    ("container", "vendor", "power"),
    [("tiff", "generic-tiff", None), ("svs", "aperio", "20")],
)
def test_openslide_reads_back_what_was_written(tmp_path, pixels, container, vendor, power):
    path = tmp_path / "slide.bin"
    write_pyramid(path, pixels, mpp=0.25, container=container, jpeg_quality=95)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == vendor
        assert slide.level_dimensions == ((1024, 768), (256, 192), (64, 48))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25, rel=1e-6)
        assert slide.properties.get("openslide.objective-power") == power
        found = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))
        assert np.abs(found[..., :3].astype(int) - pixels).mean() < 1.5
        assert (found[..., 3] == 255).all()
        coarse = np.asarray(slide.read_region((0, 0), 2, (64, 48)))[..., :3]
        means = pixels.reshape(48, 16, 64, 16, 3).mean(axis=(1, 3))
        assert np.abs(coarse - means).mean() < 2


@pytest.mark.parametrize("container", ["tiff", "svs"])
def test_no_resolution_means_none_anywhere(tmp_path, pixels, container):
    path = tmp_path / "slide.bin"
    write_pyramid(path, pixels, mpp=None, container=container, objective_power=None)
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties


@pytest.mark.parametrize("container", ["tiff", "svs"])
def test_the_same_area_is_transparent_in_every_level(tmp_path, pixels, container):
    opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    opaque[256:512, :512] = 0
    path = tmp_path / "slide.bin"
    write_pyramid(path, np.concatenate([pixels, opaque], axis=2), mpp=0.5, container=container)
    with openslide.OpenSlide(path) as slide:
        for level, edge in enumerate((256, 64, 16)):
            found = alpha(slide, level)
            assert (found[edge : 2 * edge, : 2 * edge] == 0).all()
            assert (found > 0).mean() == pytest.approx(1 - 2 / 12)


def test_a_tile_with_any_visible_pixel_is_stored_whole(tmp_path, pixels):
    opaque = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    opaque[300, 300] = 255
    path = tmp_path / "slide.tiff"
    write_pyramid(path, np.concatenate([pixels, opaque], axis=2), mpp=0.5)
    with openslide.OpenSlide(path) as slide:
        found = alpha(slide, 0)
        assert (found[256:512, 256:512] == 255).all()
        assert (found > 0).sum() == 256 * 256


def test_scn_places_the_scanned_area_and_leaves_the_rest_transparent(tmp_path, pixels):
    path = tmp_path / "slide.scn"
    write_pyramid(path, pixels, mpp=0.5, container="scn", offset_level0_px=(2048, 512))
    with openslide.OpenSlide(path) as slide:
        bounds = [int(slide.properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height")]
        assert bounds == [2048, 512, 1024, 768]
        assert slide.dimensions == (1024 + 2 * 2048, 768 + 2 * 512)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert slide.properties["openslide.objective-power"] == "20"
        found = np.asarray(slide.read_region((2048, 512), 0, (WIDTH, HEIGHT)))[..., :3]
        assert np.abs(found.astype(int) - pixels).mean() < 2
        found = alpha(slide, 0)
        assert (found > 0).sum() == WIDTH * HEIGHT
        assert (found[512 : 512 + HEIGHT, 2048 : 2048 + WIDTH] == 255).all()


def test_equal_arguments_give_equal_bytes(tmp_path, pixels):
    digests = set()
    for name in ("a.svs", "b.svs"):
        write_pyramid(tmp_path / name, pixels, mpp=0.5, container="svs")
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tile_px": 250}, "multiple of 16"),
        ({"offset_level0_px": (10, 0)}, "only container 'scn'"),
        ({"pixels": np.zeros((64, 64, 2), np.uint8)}, "RGB or RGBA"),
        ({"pixels": np.zeros((64, 64, 4), np.uint8), "container": "scn"}, "missing tiles"),
        ({"container": "scn"}, "offset_level0_px of 0"),
        (
            {"container": "scn", "offset_level0_px": (9, 9), "objective_power": None},
            "without objective_power",
        ),
    ],
)
def test_contradictions_are_refused_and_nothing_is_written(tmp_path, pixels, change, told):
    arguments = {"pixels": pixels, "mpp": 0.5, **change}
    with pytest.raises(ValueError, match=told):
        write_pyramid(tmp_path / "slide.tiff", arguments.pop("pixels"), **arguments)
    assert list(tmp_path.iterdir()) == []
