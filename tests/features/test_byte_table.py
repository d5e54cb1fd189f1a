"""Bytes as a network's numbers: a table holds what arithmetic on every pixel gives, to the last bit."""

import numpy as np
import pytest
import torch
from torch import nn

from wsi_kd.features.byte_table import ByteTable, normalized
from wsi_kd.features.network_encoder import CPU_PASS_TILES, NetworkEncoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def color_row(values):
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def of_imagenet():
    return color_row(MEAN) * 255.0, 1.0 / (color_row(STD) * 255.0)


def every_level():
    """256 levels of each color, no two colors in step."""
    level = np.arange(256, dtype=np.uint8)
    return np.stack([level, np.roll(level, 7), level[::-1]], axis=1).reshape(2, 8, 16, 3)


def test_levels_by_hand():
    """Mean 51, 102 and 0 levels; a scale of 1/2, 2 and 1."""
    table = ByteTable(color_row([51.0, 102.0, 0.0]), color_row([0.5, 2.0, 1.0]), torch.float32)
    tiles = np.array([[[[51, 102, 0], [0, 0, 255]]]], np.uint8)
    assert table(tiles).tolist() == [[[[0.0, -25.5]], [[0.0, -204.0]], [[0.0, 255.0]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_level_has_the_bits_of_the_arithmetic(dtype):
    mean, scale = of_imagenet()
    tiles = every_level()
    found = ByteTable(mean, scale, dtype)(tiles)
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    assert found.dtype == dtype
    assert torch.equal(found, normalized(pixels, mean, scale).to(dtype))
    assert found.is_contiguous(memory_format=torch.channels_last)
    exact = (tiles.astype(float) / 255 - MEAN) / STD
    assert np.allclose(found.permute(0, 2, 3, 1).double().numpy(), exact, rtol=2**-8, atol=2**-8)


def test_some_rows_of_a_batch_and_tiles_that_are_wide():
    mean, scale = of_imagenet()
    table, tiles = ByteTable(mean, scale, torch.bfloat16), every_level()
    batch = np.concatenate([tiles] * 3)
    first = table(batch[2:4])
    before = first.clone()
    assert torch.equal(first, table(tiles))
    table(255 - tiles)
    assert torch.equal(first, before)  # a later call writes elsewhere
    assert torch.equal(table(tiles[:, :3, ::2]), before[:, :, :3, ::2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoder_feeds_its_network_those_numbers(dtype):
    fed, mean_scale = [], of_imagenet()

    class Means(nn.Module):
        def forward(self, pixels):
            fed.append(pixels.clone())
            return pixels.mean(dim=(2, 3))

    encoder = NetworkEncoder(
        "means",
        Means(),
        input_px=16,
        pixel_mean=MEAN,
        pixel_std=STD,
        model_arguments={},
        weights_hash="",
        dtype=dtype,
        device=torch.device("cpu"),
    )
    encoder.leave_unchecked()
    fed.clear()
    tiles = np.random.default_rng(0).integers(0, 256, (CPU_PASS_TILES + 1, 16, 16, 3), dtype=np.uint8)
    encoder(tiles)
    expected = normalized(torch.from_numpy(tiles).permute(0, 3, 1, 2), *mean_scale).to(dtype)
    assert [len(pixels) for pixels in fed] == [CPU_PASS_TILES] * 2
    assert torch.equal(fed[0], expected[:CPU_PASS_TILES])
    assert torch.equal(fed[1][:1], expected[CPU_PASS_TILES:])
