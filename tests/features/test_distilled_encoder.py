"""Encoders `distilled:<folder>`: what is saved is loaded, and a broken folder is one clear line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json
from wsi_kd.features.distilled import EncoderForm, read_encoder_header
from wsi_kd.features.distilled_network import build_network, save_encoder
from wsi_kd.features.encoders import Encoder, check_encoder_name, create_encoder
from wsi_kd.features.tile_cnn import TileCnn

FORM = EncoderForm("tile_cnn", {"channels": [4, 6]}, 12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
PLAIN = {"weights": None, "input_px": None, "pixel_mean": None, "pixel_std": None, "model_arguments": {}}


def encoder(name, **settings):
    return create_encoder(name, **{**PLAIN, **settings}, precision="float32", device="cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(FORM.network, FORM.model_arguments).eval()


@pytest.fixture
def folder(tmp_path, network):
    path = tmp_path / "small"
    save_encoder(path, network.state_dict(), form=FORM, feature_dim=6, settings={"a": 1}, facts={"b": 2})
    return path


@pytest.fixture
def tiles():
    return np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)


def test_what_is_saved_is_what_is_loaded(folder, network, tiles):
    found = encoder(f"distilled:{folder}")
    assert isinstance(found, Encoder)
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(value)[:, None, None] for value in (FORM.pixel_mean, FORM.pixel_std))
    with torch.no_grad():
        expected = network((pixels - mean) / std).numpy()
    assert found(tiles) == pytest.approx(expected, abs=1e-5)
    assert (found.feature_dim, found.input_px) == (6, 12)
    assert found.weights_hash == file_hash(folder / "encoder.safetensors")
    assert found.settings["pixel_mean"] == [0.5, 0.4, 0.3]
    header = read_json(folder / "encoder.json", remake="")
    assert (header["b"], header["settings"], header["kind"]) == (2, {"a": 1}, "encoder")


def test_a_name_of_timm_is_rebuilt_with_its_arguments(tmp_path, tiles):
    form = EncoderForm("test_resnet", {"in_chans": 3}, 32, (0.5,) * 3, (0.5,) * 3)
    torch.manual_seed(0)
    network = build_network(form.network, form.model_arguments).eval()
    width = network.num_features
    save_encoder(tmp_path, network.state_dict(), form=form, feature_dim=width, settings={}, facts={})
    large = np.repeat(np.repeat(tiles[:2, :8, :8], 4, axis=1), 4, axis=2)
    with torch.no_grad():
        expected = network(torch.from_numpy(large).permute(0, 3, 1, 2) / 127.5 - 1.0).numpy()
    assert encoder(f"distilled:{tmp_path}")(large) == pytest.approx(expected, abs=1e-4)


def test_a_folder_that_was_moved_is_named_by_its_weights(folder, tmp_path, tiles):
    before = encoder(f"distilled:{folder}")
    moved = shutil.move(folder, tmp_path / "elsewhere")
    found = encoder(f"distilled:{folder}", weights=tmp_path / "elsewhere" / "encoder.safetensors")
    assert np.array_equal(found(tiles), before(tiles))
    assert found.weights_hash == before.weights_hash
    with pytest.raises(BadInput, match=r"reads encoder\.safetensors of its folder, embed\.weights is"):
        encoder(f"distilled:{moved}", weights=tmp_path / "other.safetensors")


def test_tile_cnn_halves_and_pools():
    torch.manual_seed(0)
    network = TileCnn(channels=(4, 5, 6)).eval()
    sizes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _module, _given, found: sizes.append(tuple(found.shape[1:])))
    pixels = torch.randn(2, 3, 27, 27)
    with torch.no_grad():
        found = network(pixels)
        by_hand = network.blocks(pixels).mean(dim=(2, 3))
    assert sizes[:3] == [(4, 27, 27), (5, 14, 14), (6, 7, 7)]
    assert torch.equal(found, by_hand)
    parameters = 9 * (3 * 4 + 4 * 5 + 5 * 6) + 2 * (4 + 5 + 6)
    assert sum(value.numel() for value in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"input_px": 64}, "takes no embed.input_px; remove it"),
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "takes no embed.pixel_mean; remove it"),
        ({"model_arguments": {"depth": 1}}, "takes no embed.model_arguments; remove it"),
    ],
)
def test_what_the_folder_says_cannot_be_said_again(folder, settings, line):
    with pytest.raises(BadInput, match=line):
        encoder(f"distilled:{folder}", **settings)


def change(folder, **members):
    header = json.loads((folder / "encoder.json").read_text())
    header.pop("content_sha256")
    publish_json(folder / "encoder.json", {**header, **members})


def damage(folder):
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("breaks", "line"),
    [
        (shutil.rmtree, "encoder.json: no such file; make it with: wsi-kd distill"),
        (lambda folder: (folder / "encoder.safetensors").unlink(), "encoder.safetensors: no such file; make"),
        (damage, "encoder.safetensors: not the weights of its header"),
        (lambda folder: (folder / "encoder.json").write_text("{"), "encoder.json: not readable as JSON"),
        (lambda folder: change(folder, kind="model"), "holds 'model', expected 'encoder'"),
        (lambda folder: change(folder, schema_version=99), "schema version 99"),
        (lambda folder: change(folder, pixel_mean=[0.5]), "does not describe an encoder"),
    ],
)
def test_a_broken_folder_is_one_line_before_any_network_is_built(folder, breaks, line):
    breaks(folder)
    with pytest.raises(BadInput, match=line) as caught:
        check_encoder_name(f"distilled:{folder}")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=line):
        encoder(f"distilled:{folder}")


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"feature_dim": 7}, "says 7 features, the network gives 6"),
        ({"model_arguments": {"channels": [4, 7]}}, "not the weights of a tile_cnn"),
        ({"model_arguments": {"depth": 2}}, "its arguments do not fit .*; it takes channels"),
        ({"network": "no_such_network"}, "encoder 'no_such_network'"),
    ],
)
def test_a_header_that_does_not_fit_its_weights_is_one_line(folder, members, line):
    change(folder, **members)
    with pytest.raises(BadInput, match=line) as caught:
        encoder(f"distilled:{folder}")
    assert "\n" not in str(caught.value)


def test_a_name_without_folder_says_what_to_write():
    with pytest.raises(BadInput, match="names no folder; write distilled:<folder>"):
        check_encoder_name("distilled:")


def test_looking_at_a_folder_loads_no_torch(folder):
    code = (
        "import sys; from pathlib import Path; from wsi_kd.features.encoders import check_encoder_name; "
        f"check_encoder_name('distilled:{folder}'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_header_tells_what_a_plan_needs(folder):
    described = read_encoder_header(folder)
    assert described.form == FORM
    assert described.weights_sha256 == file_hash(described.weights_path)
