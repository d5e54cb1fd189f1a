"""Encoders of the table on small random networks: what they are fed, and what becomes of their tokens."""

import logging

import numpy as np
import pytest
import torch
from random_encoders import random_network, save_weights, small_row

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.known_encoder import create_known_encoder, license_note
from wsi_kd.features.torchvision_import import import_torchvision

# One row for each way of building, pooling, counting registers and feeding.
NAMES = (
    "uni",
    "uni2_h",
    "conch",
    "conch_v1_5",
    "virchow",
    "virchow2",
    "gigapath",
    "h_optimus_0",
    "h0_mini",
    "hibou_b",
    "phikon",
    "ctranspath",
    "kaiko_vits8",
    "kaiko_vitl14",
    "lunit_vits16",
)


def encoder(row, path, **changes):
    given = {"weights": path, "weights_dir": None, "input_px": None, "precision": "float32", "device": "cpu"}
    return create_known_encoder(row, **{**given, **changes})


def tiles_of(count, edge, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, edge, edge, 3), dtype=np.uint8)


def as_authors_feed(row, tiles, *, resized_as="image"):
    """torchvision's transforms, as the cards write them; resized as an image or, by torch, as bytes."""
    transforms = import_torchvision().transforms
    sight = row.sight

    def by_torch(image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        size = (sight.resize_px, sight.resize_px)
        found = torch.nn.functional.interpolate(pixels, size, mode=sight.interpolation, antialias=True)
        return transforms.ToPILImage()(found[0])

    by_pillow = transforms.Resize(sight.resize_px, transforms.InterpolationMode(sight.interpolation))
    steps = transforms.Compose(
        [
            transforms.ToPILImage(),
            by_pillow if resized_as == "image" else by_torch,
            transforms.CenterCrop(sight.input_px),
            transforms.ToTensor(),
            transforms.Normalize(sight.pixel_mean, sight.pixel_std),
        ]
    )
    return torch.stack([steps(tile) for tile in tiles])


def pooled_by_hand(row, network, pixels):
    """What the authors' cards do with the tokens behind the last norm, without our pooling."""
    if row.network.tokens == "average":
        feature_map = network.forward_features(pixels)
        return feature_map.mean(dim=(1, 2))
    trunk = network if row.network.tokens == "class" else network.trunk
    tokens = trunk.forward_features(pixels)
    if row.network.tokens == "class":
        return tokens[:, 0]
    if row.network.tokens == "class+mean":
        grid = (row.sight.input_px // trunk.patch_embed.patch_size[0]) ** 2
        return torch.cat([tokens[:, 0], tokens[:, -grid:].mean(1)], dim=-1)
    return network.ln_contrast(network.attn_pool_contrast(tokens))


@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_fed_and_tokens_read_as_the_authors_do(tmp_path, name):
    row = small_row(name)
    network = save_weights(row, tmp_path / "w.safetensors")
    tiles = tiles_of(2, row.scale.tile_px)
    found = encoder(row, tmp_path / "w.safetensors")
    with torch.inference_mode():
        expected = pooled_by_hand(row, network, as_authors_feed(row, tiles, resized_as="bytes")).numpy()
    features = found(tiles)
    assert features.shape == (2, row.network.feature_dim)
    assert features == pytest.approx(expected, abs=2e-4)
    assert np.abs(features[0] - features[1]).max() > 1e-3
    assert found.weights_hash == file_hash(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", [name for name in NAMES if ENCODERS[name].network.build != "ctranspath"])
def test_the_table_counts_the_tokens_before_the_patches(name):
    row = small_row(name)
    network = random_network(row)
    trunk = getattr(network, "trunk", network)
    patches = (row.sight.input_px // trunk.patch_embed.patch_size[0]) ** 2
    blank = torch.zeros(1, 3, row.sight.input_px, row.sight.input_px)
    tokens = trunk.forward_features(blank)
    assert tokens.shape[1] == row.network.prefix_tokens + patches
    assert trunk.num_prefix_tokens == row.network.prefix_tokens


@pytest.mark.parametrize("edge", [224, 256, 300, 100])
@pytest.mark.parametrize("name", ["uni", "virchow", "gigapath"])
def test_pixels_equal_the_authors_transforms(tmp_path, name, edge):
    """Bilinear, bicubic, and a border that is cut off, from larger and smaller tiles."""
    row = small_row(name)
    save_weights(row, tmp_path / "w.safetensors")
    found = encoder(row, tmp_path / "w.safetensors")
    fed = []
    found.network = lambda pixels: fed.append(pixels) or torch.zeros(len(pixels), found.feature_dim)
    tiles = tiles_of(1, edge)
    found(tiles)
    assert fed[0].shape[2:] == (224, 224)
    assert float((fed[0][:1] - as_authors_feed(row, tiles, resized_as="bytes")).abs().max()) < 1e-5
    levels = (
        (fed[0][:1] - as_authors_feed(row, tiles)) * torch.tensor(row.sight.pixel_std)[:, None, None] * 255
    )
    assert float(levels.abs().max()) < 2.01
    assert float((levels.abs() > 0.5).float().mean()) < 0.02


def test_what_shapes_the_features_is_told(tmp_path):
    row = small_row("gigapath")
    save_weights(row, tmp_path / "w.safetensors")
    found = encoder(row, tmp_path / "w.safetensors")
    assert found.settings == {
        "input_px": 224,
        "resize_px": 256,
        "interpolation": "bicubic",
        "pixel_mean": [0.485, 0.456, 0.406],
        "pixel_std": [0.229, 0.224, 0.225],
        "model_arguments": {},
    }
    whole = encoder(row, tmp_path / "w.safetensors", input_px=240)
    assert (whole.settings["input_px"], whole.settings["resize_px"]) == (240, 240)
    assert whole(tiles_of(1, 256)).shape == (1, row.network.feature_dim)


def test_a_network_that_gives_another_width_than_the_table_says_is_refused(tmp_path):
    row = small_row("uni")
    save_weights(row, tmp_path / "w.safetensors")
    other = row._replace(network=row.network._replace(feature_dim=1024))
    with pytest.raises(BadInput, match=r"encoder 'uni': gives 48 features, not 1024;.*constraints\.txt"):
        encoder(other, tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "input_px", "message"),
    [("uni", 230, "does not take tiles of 230 px"), ("ctranspath", 256, "takes tiles of 224 px alone")],
)
def test_an_edge_that_a_network_cannot_take(tmp_path, name, input_px, message):
    row = small_row(name)
    save_weights(row, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=message):
        encoder(row, tmp_path / "w.safetensors", input_px=input_px)


@pytest.mark.parametrize("name", ["uni2_h", "virchow2", "conch", "ctranspath"])
def test_a_tile_does_not_see_its_batch_and_twice_is_the_same(tmp_path, name):
    row = small_row(name)
    save_weights(row, tmp_path / "w.safetensors")
    found = encoder(row, tmp_path / "w.safetensors")
    tiles = tiles_of(3, row.scale.tile_px)
    together = found(tiles)
    assert together == pytest.approx(np.concatenate([found(tile[None]) for tile in tiles]), abs=1e-4)
    assert np.array_equal(together, found(tiles))
    again = encoder(row, tmp_path / "w.safetensors")
    assert np.array_equal(together, again(tiles))


@pytest.mark.parametrize("name", ["uni", "virchow2", "conch_v1_5", "ctranspath"])
def test_bfloat16_is_close_to_float32(tmp_path, name):
    row = small_row(name)
    save_weights(row, tmp_path / "w.safetensors")
    tiles = tiles_of(2, row.scale.tile_px)
    exact, rounded = (
        encoder(row, tmp_path / "w.safetensors", precision=precision)(tiles)
        for precision in ("float32", "bfloat16")
    )
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.03


def test_weights_of_another_encoder_are_told_by_key(tmp_path):
    save_weights(small_row("phikon"), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"w\.safetensors: not the weights of this encoder: .* missing"):
        encoder(small_row("uni2_h"), tmp_path / "w.safetensors")


def test_weights_without_a_class_token_are_never_filled_up(tmp_path):
    row = small_row("uni")
    network = random_network(row)
    torch.save({k: v for k, v in network.state_dict().items() if k != "cls_token"}, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=r"1 missing \(cls_token\)"):
        encoder(row, tmp_path / "w.pt")


def test_the_license_is_told_once(tmp_path, caplog):
    row = small_row("kaiko_vits16")
    save_weights(row, tmp_path / "w.safetensors")
    with caplog.at_level(logging.WARNING):
        found = encoder(row, tmp_path / "w.safetensors")
        found(tiles_of(1, 256))
        found(tiles_of(1, 256))
    told = [record.getMessage() for record in caplog.records]
    assert told == [license_note(row)]
    assert "Kaiko non-commercial, no commercial use" in told[0]
    assert "no commercial use" not in license_note(ENCODERS["virchow"])
