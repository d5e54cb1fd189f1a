import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import file_hash
from wsi_kd.features import torchvision_import
from wsi_kd.features.encoders import create_encoder
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.stain_texture import FEATURE_NAMES, stain_texture

TINY = "test_vit"
DEFAULTS = {
    "weights": None,
    "input_px": None,
    "pixel_mean": None,
    "pixel_std": None,
    "model_arguments": {},
    "precision": "float32",
    "device": "cpu",
}


def encoder(name, **settings):
    return create_encoder(name, **{**DEFAULTS, **settings})


@pytest.fixture(scope="module")
def tiny_state():
    timm = torchvision_import.import_timm()
    torch.manual_seed(0)
    network = timm.create_model(TINY, pretrained=False)  # with its classifier, as files have it
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def tiny_weights(tiny_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(tiny_state, path)
    return path


@pytest.fixture
def tiles():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)


def test_stain_texture_is_an_encoder(tiles):
    found = encoder("stain_texture")
    assert np.array_equal(found(tiles), stain_texture(tiles))
    assert (found.feature_dim, found.input_px, found.feature_names) == (100, None, FEATURE_NAMES)
    assert found.weights_hash == encoder("stain_texture").weights_hash


def test_a_timm_network_equals_timm_itself(tiles, tiny_weights, tiny_state):
    found = encoder(TINY, weights=tiny_weights, input_px=160)
    network = torchvision_import.import_timm().create_model(TINY, pretrained=False, num_classes=0).eval()
    network.load_state_dict(tiny_state, strict=False)
    exact = np.random.default_rng(1).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    mean, std = (torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    pixels = (torch.from_numpy(exact).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        expected = network(pixels).numpy()
    assert found(exact) == pytest.approx(expected, abs=1e-4)
    assert found.weights_hash == file_hash(tiny_weights)
    assert found.feature_dim == expected.shape[1]
    assert found(tiles).shape == (5, found.feature_dim)
    assert found(tiles[:0]).shape == (0, found.feature_dim)


def test_a_batch_of_one_equals_a_batch_of_many(tiles, tiny_weights):
    found = encoder(TINY, weights=tiny_weights)
    alone = np.concatenate([found(tile[None]) for tile in tiles])
    assert found(tiles) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickled_weights_give_the_same_features(tmp_path, tiles, tiny_weights, tiny_state, suffix):
    path = tmp_path / f"tiny{suffix}"
    torch.save({"state_dict": {f"module.{key}": value for key, value in tiny_state.items()}}, path)
    expected = encoder(TINY, weights=tiny_weights)(tiles)
    assert np.array_equal(encoder(TINY, weights=path)(tiles), expected)


def test_pixel_settings_override_the_networks_own(tiles, tiny_weights):
    """Mean m and deviation s of pixels in 0-1: x/127.5-1 is m = s = 0.5."""
    half = (0.5, 0.5, 0.5)
    found = encoder(TINY, weights=tiny_weights, pixel_mean=half, pixel_std=half)
    resized = {"input_px": 160, "resize_px": 160, "interpolation": "bilinear"}
    told = {**resized, "pixel_mean": list(half), "pixel_std": list(half), "model_arguments": {}}
    assert found.settings == told  # features from before said nothing of how tiles were resized
    seen = []
    found.network = lambda pixels: seen.append(pixels) or torch.zeros(len(pixels), found.feature_dim)
    found(np.stack([np.full((160, 160, 3), level, np.uint8) for level in (0, 255)]))
    assert seen[0][:2, 0, 0, 0].tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)


def test_bfloat16_is_close_to_float32(tiles, tiny_weights):
    exact, rounded = (
        encoder(TINY, weights=tiny_weights, precision=p)(tiles) for p in ("float32", "bfloat16")
    )
    assert rounded.dtype == np.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
def test_torchvision_names_load_torchvision_keys(tmp_path, tiles, name):
    torch.manual_seed(0)
    network = getattr(torchvision_import.import_torchvision().models, name)(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    found = encoder(f"torchvision:{name}", weights=tmp_path / "w.pt", input_px=64)
    pixels = torch.from_numpy(np.full((1, 64, 64, 3), 128, np.uint8)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(found.settings[key])[:, None, None] for key in ("pixel_mean", "pixel_std"))
    with torch.inference_mode():
        expected = network.features((pixels - mean) / std).mean(dim=(2, 3)).numpy()
    assert found(np.full((1, 64, 64, 3), 128, np.uint8)) == pytest.approx(expected, abs=1e-5)
    assert found.feature_dim == {"mobilenet_v2": 1280, "squeezenet1_1": 512}[name]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("stain_textur", "did you mean 'stain_texture'"),
        ("torchvision:mobilenet_v3", "did you mean 'torchvision:mobilenet_v2'"),
        ("resnet51", "resnet50"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(name, near):
    with pytest.raises(BadInput, match=near) as caught:
        encoder(name)
    assert str(caught.value).startswith(f"unknown encoder '{name}'")
    assert len(str(caught.value)) < 400


def test_weights_that_cannot_be_had_are_never_random():
    timm_has_none = "vit_small_patch16_36x36_swiglu_no_such"
    for name in ("hf-hub:owner/model", "resnet18.no_such_tag", timm_has_none):
        with pytest.raises(BadInput, match=r"embed\.weights|unknown encoder"):
            encoder(name)


def test_stain_texture_takes_no_network_settings(tiny_weights):
    with pytest.raises(BadInput, match=r"takes no embed\.weights, embed\.input_px"):
        encoder("stain_texture", weights=tiny_weights, input_px=224)


def test_model_arguments_reach_timm_and_are_recorded(tmp_path, tiles):
    timm = torchvision_import.import_timm()
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True)
    path = tmp_path / "vit.pt"
    torch.save(network.state_dict(), path)
    arguments = {"dynamic_img_size": True}
    found = encoder("vit_tiny_patch16_224", weights=path, input_px=32, model_arguments=arguments)
    assert found(tiles).shape == (len(tiles), 192)
    assert found.settings["model_arguments"] == arguments
    with pytest.raises(BadInput, match="dynamic_size"):
        encoder("vit_tiny_patch16_224", weights=path, model_arguments={"dynamic_size": True})


@pytest.mark.parametrize("name", ["stain_texture", "torchvision:mobilenet_v2"])
def test_only_timm_takes_model_arguments(name):
    with pytest.raises(BadInput, match=r"embed\.model_arguments"):
        encoder(name, model_arguments={"init_values": 1e-5})


def test_an_input_size_that_a_network_cannot_take(tiny_weights):
    with pytest.raises(BadInput, match="does not take tiles of 90 px"):
        encoder(TINY, weights=tiny_weights, input_px=90)


def without_a_key(state):
    return {key: value for key, value in state.items() if key != "cls_token"}


def with_a_key(state):
    return {**state, "extra.weight": torch.zeros(1)}


def reshaped(state):
    return {**state, "cls_token": torch.zeros(1, 1, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_key, r"1 missing \(cls_token\)"),
        (with_a_key, r"1 unexpected \(extra\.weight\)"),
        (reshaped, r"1 of another shape \(cls_token \(1, 1, 3\) instead of \(1, 1, 64\)\)"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_key(tmp_path, tiny_state, change, message):
    save_file(change(tiny_state), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=message):
        encoder(TINY, weights=tmp_path / "w.safetensors")


class Harmful:
    """Would run a command if it were unpickled."""

    def __reduce__(self):
        return os.mkdir, (self.folder,)

    def __init__(self, folder):
        self.folder = str(folder)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save({"weight": Harmful(tmp_path / "made")}, tmp_path / "w.pt")
        with pytest.raises(BadInput, match="would have to run code"):
            encoder(TINY, weights=tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.onnx"])
def test_weight_files_of_no_use_are_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(BadInput, match="no such weight file"):
        encoder(TINY, weights=path)
    path.write_bytes(np.random.default_rng(0).bytes(300))
    with pytest.raises(BadInput, match=str(path)) as caught:
        encoder(TINY, weights=path)
    assert "\n" not in str(caught.value)


def test_weights_must_be_a_dict_of_tensors(tmp_path):
    for value, message in (([1, 2], "holds list"), ({"epoch": 3}, "'epoch' is not a tensor")):
        torch.save(value, tmp_path / "w.pt")
        with pytest.raises(BadInput, match=message):
            encoder(TINY, weights=tmp_path / "w.pt")


def test_a_full_gpu_is_told_with_the_setting(tiles):
    class Full(torch.nn.Module):
        def forward(self, pixels):
            if len(pixels) > 1:
                raise torch.OutOfMemoryError
            return torch.zeros(1, 2)

    found = NetworkEncoder(
        "full",
        Full(),
        input_px=8,
        pixel_mean=(0.0,) * 3,
        pixel_std=(1.0,) * 3,
        model_arguments={},
        weights_hash="",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    with pytest.raises(RunFailed, match=r"lower embed\.batch_size"):
        found(tiles)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_features_of_the_cpu(tiles, tiny_weights):
    expected = encoder(TINY, weights=tiny_weights)(tiles)
    exact = encoder(TINY, weights=tiny_weights, device="cuda")(tiles)
    rounded = encoder(TINY, weights=tiny_weights, device="cuda", precision="auto")(tiles)
    assert exact == pytest.approx(expected, abs=1e-2)
    assert np.linalg.norm(rounded - expected) / np.linalg.norm(expected) < 0.05
