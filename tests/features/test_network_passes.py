"""A tile's features do not depend on its place, its neighbors or the batch; other precisions are checked."""

import platform
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.features.embed import embed_tiles
from wsi_kd.features.encoders import PreparedEncoder
from wsi_kd.features.network_encoder import CPU_PASS_TILES, NetworkEncoder
from wsi_kd.features.precision_gate import GATE_TILES, check_precision, least_cosine
from wsi_kd.features.preparation import Preparation


def network_of(kind):
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 40), nn.LayerNorm(40), nn.Linear(40, 7)]
    return nn.Sequential(*convolutions, *head) if kind == "mixed" else kind


def encoder_of(network="mixed", dtype=torch.float32, edge=32, preparation=None):
    return NetworkEncoder(
        "random",
        network_of(network),
        input_px=edge,
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        model_arguments={},
        weights_hash="",
        dtype=dtype,
        device=torch.device("cpu"),
        preparation=preparation,
    )


def tiles_of(count, edge=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, edge, edge, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_features_are_the_same_to_the_last_bit_at_any_place(dtype, threads):
    tiles, encoder, before = (
        tiles_of(2 * CPU_PASS_TILES + 5),
        encoder_of(dtype=dtype),
        torch.get_num_threads(),
    )
    torch.set_num_threads(threads)
    try:
        together = encoder(tiles)
        order = np.random.default_rng(1).permutation(len(tiles))
        assert np.array_equal(encoder(tiles[order]), together[order])
        for start, count in ((0, 1), (3, 7), (20, 16), (30, 7)):
            assert np.array_equal(encoder(tiles[start : start + count]), together[start : start + count])
    finally:
        torch.set_num_threads(before)
    assert len(np.unique(together, axis=0)) == len(together)  # and no two are alike


def test_every_pass_on_a_cpu_has_as_many_tiles():
    encoder, sizes = encoder_of(), []
    encoder.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    encoder(tiles_of(CPU_PASS_TILES + 1))
    encoder(tiles_of(1))
    assert sizes == [CPU_PASS_TILES] * 3


def test_tiles_resized_by_threads_into_a_batch_have_the_features_of_a_plain_call():
    encoder = encoder_of()
    assert isinstance(encoder, PreparedEncoder)
    tiles = tiles_of(40, edge=50)
    coords = np.stack([np.arange(40), np.zeros(40, np.int64)], axis=1)

    def read(corners, out):
        out[...] = tiles[[x for x, _ in corners]]
        return {}

    for workers, batch_size in ((0, 64), (2, 16), (2, 7)):
        found = embed_tiles(
            read, coords, encoder, tile_px=50, batch_size=batch_size, workers=workers, dtype="float32"
        )
        assert np.array_equal(found.features, encoder(tiles))


@pytest.mark.parametrize(("edge", "resize_px", "prepared"), [(32, 32, 0), (40, 40, 20), (32, 40, 20)])
def test_only_tiles_that_fit_are_read_into_the_batch_itself(edge, resize_px, prepared, monkeypatch):
    encoder, tiles, seen = (
        encoder_of(preparation=Preparation(32, resize_px, "bicubic")),
        tiles_of(20, edge),
        [],
    )
    prepare = encoder.prepare
    monkeypatch.setattr(encoder, "prepare", lambda few, out: (seen.append(len(few)), prepare(few, out)))

    def read(corners, out):
        out[...] = tiles[[x for x, _ in corners]]
        return {}

    coords = np.stack([np.arange(20), np.zeros(20, np.int64)], axis=1)
    found = embed_tiles(read, coords, encoder, tile_px=edge, batch_size=16, workers=0, dtype="float32")
    assert sum(seen) == prepared
    assert np.array_equal(found.features, encoder(tiles))


class Cancels(nn.Module):
    """Means of color, found as the small difference of large numbers."""

    def __init__(self, offset):
        super().__init__()
        self.offset = offset

    def forward(self, pixels):
        return (pixels.mean(dim=(2, 3)) + self.offset) - self.offset


def test_a_precision_that_changes_features_is_refused_in_one_line():
    tiles = tiles_of(5) // np.arange(1, 6, dtype=np.uint8).reshape(5, 1, 1, 1)
    with pytest.raises(
        BadInput, match=r"embed\.precision: bfloat16 .*0\.999 are needed; set embed"
    ) as refused:
        encoder_of(Cancels(300.0), torch.bfloat16)(tiles)
    assert "\n" not in str(refused.value)
    expected = encoder_of(Cancels(0.0))(tiles)
    assert np.allclose(encoder_of(Cancels(300.0))(tiles), expected, atol=1e-4)  # float32 is not refused


def test_the_first_tiles_are_compared_and_then_no_more():
    encoder, exact = encoder_of(dtype=torch.bfloat16), []
    encoder._exact.register_forward_pre_hook(lambda _, inputs: exact.append(len(inputs[0])))
    for count in (5, GATE_TILES, 9):
        encoder(tiles_of(count))
    assert exact == [5, GATE_TILES - 5]
    assert encoder._exact is None


def test_the_cosine_of_hand_worked_rows():
    exact = np.array([[1, 0], [3, 4], [0, 0]], np.float32)
    assert least_cosine(exact, exact) == 1.0
    assert least_cosine(exact, np.array([[2, 0], [4, 3], [0, 0]], np.float32)) == pytest.approx(24 / 25)
    assert least_cosine(exact, np.array([[1, 0], [3, 4], [1, 0]], np.float32)) == 0.0
    assert least_cosine(exact[:0], exact[:0]) == 1.0
    with pytest.raises(BadInput):
        check_precision("e", exact[:1], np.array([[np.nan, 0]], np.float32), what="compile")


def test_compiling_needs_a_gpu():
    with pytest.raises(BadInput, match=r"embed\.compile needs a GPU"):
        encoder_of().compile()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_intermediate_results_of_a_pass_use_the_memory_of_the_pass_before():
    """33 MB a pass, which glibc would map and hand back: 8,000 page faults each."""
    faults, tiles = [], tiles_of(1, edge=128)[0]
    network = nn.Sequential(nn.Conv2d(3, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = encoder_of(network, edge=128)
    network.register_forward_hook(lambda *_: faults.append(getrusage(RUSAGE_SELF).ru_minflt))

    def read(corners, out):
        out[...] = tiles
        return {}

    coords = np.stack([np.arange(16 * CPU_PASS_TILES), np.zeros(16 * CPU_PASS_TILES, np.int64)], axis=1)
    found = embed_tiles(read, coords, encoder, tile_px=128, batch_size=32, workers=0)
    assert len(found.features) == len(coords)
    assert np.median(np.diff(faults)) < 2000  # of most: others may take a place
