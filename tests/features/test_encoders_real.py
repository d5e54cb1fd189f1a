"""The encoders on real tiles of nine tissue classes: tiles of different classes get different features."""

import cv2
import numpy as np
import pytest

from wsi_kd.features.encoders import create_encoder

NETWORKS = {
    "torchvision:mobilenet_v2": ("mobilenet_v2_imagenet_q8dequant_fp16.pt", 1280, (0.5, 0.5, 0.5)),
    "torchvision:squeezenet1_1": ("squeezenet1_1_imagenet_features.pt", 512, None),
}


@pytest.fixture(scope="module")
def tiles(shared_data):
    paths = sorted((shared_data / "patches" / "nct-crc-samples").glob("*.tif"))
    assert len(paths) >= 9
    return np.stack([cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths])


def encoder(name, **settings):
    defaults = {
        "weights": None,
        "input_px": None,
        "pixel_mean": None,
        "pixel_std": None,
        "model_arguments": {},
    }
    return create_encoder(name, **{**defaults, **settings}, precision="float32", device="cpu")


def least_distance(features):
    """Smallest cosine distance between two tiles, after centering."""
    centered = features - features.mean(axis=0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    return float((1 - unit @ unit.T + 2 * np.eye(len(unit))).min())


@pytest.mark.shared_data
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_tell_nine_tissues_apart(shared_data, tiles, name):
    file, dim, color = NETWORKS[name]
    found = encoder(name, weights=shared_data / "weights" / file, pixel_mean=color, pixel_std=color)
    features = found(tiles)
    assert features.shape == (len(tiles), dim)
    assert np.isfinite(features).all()
    assert least_distance(features) > 0.05


@pytest.mark.shared_data
def test_wrong_normalization_is_another_encoder(shared_data, tiles):
    file, _, color = NETWORKS["torchvision:mobilenet_v2"]
    weights = shared_data / "weights" / file
    right, wrong = (
        encoder("torchvision:mobilenet_v2", weights=weights, pixel_mean=c, pixel_std=c)(tiles[:2])
        for c in (color, None)
    )
    assert np.linalg.norm(right - wrong) > 0.05 * np.linalg.norm(right)


@pytest.mark.shared_data
def test_stain_texture_tells_nine_tissues_apart(tiles):
    features = encoder("stain_texture")(tiles)
    spread = features.std(axis=0)
    scaled = features[:, spread > 0] / spread[spread > 0]
    assert (spread > 0).sum() > 90
    assert least_distance(scaled) > 0.05


@pytest.mark.shared_data
def test_the_wrong_weight_file_is_told(shared_data):
    from wsi_kd.core.errors import BadInput

    file = NETWORKS["torchvision:squeezenet1_1"][0]
    with pytest.raises(
        BadInput, match=r"not the weights of this encoder: \d+ missing \(features\.0\.0\.weight"
    ):
        encoder("torchvision:mobilenet_v2", weights=shared_data / "weights" / file)
