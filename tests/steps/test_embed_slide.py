"""One slide's features against the same tiles read and encoded by hand, and a real slide."""

import numpy as np
import pytest

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.features.stain_texture import stain_texture
from wsi_kd.settings.all import parse_settings
from wsi_kd.slides.pyramid import plan_read, read_tile
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.embed import embed_slide
from wsi_kd.steps.encoder import build_encoder
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.tile import tile_slide


def encoder_of(settings):
    return build_encoder(settings.embed)


def test_features_are_those_of_the_tiles_at_the_coords(synthetic_slide):
    slide = synthetic_slide("tumor")
    settings = parse_settings({"tile": {"tile_px": 64}, "embed": {"dtype": "float32"}}, where="test")
    row = SlideRow("tumor", slide.path, slide.label, "tumor", "", None, None, "")
    tiles = tile_slide(mask_slide(row, settings), row, settings)
    encoder = encoder_of(settings)
    found = embed_slide(tiles, row, encoder, settings=settings, workers=2)
    with open_slide(slide.path, background="metadata") as reader:
        plan = plan_read(
            reader.level_downsamples, slide_mpp=0.5, tile_mpp=0.5, tile_px=64, mpp_tolerance=0.05
        )
        pixels = [
            read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan) for x, y in tiles.coords.tolist()
        ]
    assert np.array_equal(found.features, stain_texture(np.stack(pixels)))
    assert np.array_equal(found.coords, tiles.coords)
    assert found.header["tile_level0_px"] == tiles.header["tile_level0_px"]
    assert found.header["encoder"] == "stain_texture"
    assert (found.header["feature_dim"], found.header["damaged_tiles"]) == (100, 0)
    assert set(found.header["settings"]) == {"slides", "mask", "tile", "stain", "embed"}
    assert found.header["read_by"] == "stored JPEG tiles by offset"
    in_process = embed_slide(tiles, row, encoder, settings=settings, workers=0)
    assert np.array_equal(found.features, in_process.features)


@pytest.mark.shared_data
def test_mobilenet_describes_a_real_slide(shared_data, tmp_path):
    path = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    settings = parse_settings(
        {
            "embed": {
                "encoder": "torchvision:mobilenet_v2",
                "weights": str(shared_data / "weights" / "mobilenet_v2_imagenet_q8dequant_fp16.pt"),
                "pixel_mean": [0.5, 0.5, 0.5],
                "pixel_std": [0.5, 0.5, 0.5],
                "input_px": 96,
            }
        },
        where="test",
    )
    row = SlideRow("cmu", path, "", "cmu", "", None, None, "")
    tiles = tile_slide(mask_slide(row, settings), row, settings)
    found = embed_slide(tiles, row, encoder_of(settings), settings=settings)
    assert found.features.shape == (len(tiles.coords), 1280)
    assert len(found.features) > 20
    assert found.header["status"] == "ok"
    centered = found.features.astype(np.float32) - found.features.astype(np.float32).mean(axis=0)
    assert np.linalg.matrix_rank(centered) == len(found.features) - 1
