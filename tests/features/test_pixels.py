import h5py
import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.features.encoders import Encoder, check_encoder_name, create_encoder
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.features.store import FeatureFile, read_features, write_features
from wsi_kd.settings.all import parse_settings

NO_NETWORK = {
    "weights": None,
    "pixel_mean": None,
    "pixel_std": None,
    "model_arguments": {},
    "precision": "auto",
    "device": "cpu",
}


def pixels(input_px=8, **changes):
    return create_encoder("pixels", **{**NO_NETWORK, "input_px": input_px, **changes})


def test_features_are_the_pixels_themselves():
    tiles = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    encoder = pixels()
    found = encoder(tiles)
    assert isinstance(encoder, Encoder)
    told = {"input_px": 8, "interpolation": "bilinear", "dtype": "uint8"}
    assert (encoder.feature_dim, encoder.settings) == (192, told)
    assert found.dtype == np.uint8
    assert found[1, :6].tolist() == tiles[1, 0, :2].flatten().tolist()
    assert np.array_equal(found.reshape(tiles.shape), tiles)


def test_tiles_of_another_edge_are_resized_as_networks_see_them():
    """Half the edge: weights 1, 3, 3, 1 of 8 each way; at the edge, where one is missing, 3, 3, 1 of 7."""
    tile = np.zeros((1, 16, 16, 3), np.uint8)
    tile[0, :2, :2, 1] = [[0, 98], [196, 98]]
    small = pixels()(tile).reshape(8, 8, 3)
    assert small[0, 0].tolist() == [0, round(98 * (9 + 2 * 9 + 9) / 49), 0]
    assert small[0, 1, 1] == round(98 * (3 + 3) / 56)
    assert not small[2:].any()
    even = np.full((1, 4, 4, 3), 77, np.uint8)
    assert (pixels()(even) == 77).all()


def test_pixels_are_stored_as_bytes_and_come_back(tmp_path):
    features = np.random.default_rng(1).integers(0, 256, (4, 192), dtype=np.uint8)
    header = {**stamp("features", {}), "slide_id": "s", "status": "ok", "encoder": "pixels"}
    coords, labels = np.zeros((4, 2), np.int64), np.full(4, -1, np.int8)
    path = tmp_path / "s.h5"
    write_features(path, FeatureFile("s", features, coords, labels, header))
    found = read_features(path)
    assert found.features.dtype == np.uint8
    assert np.array_equal(found.features, features)
    with h5py.File(path) as file:
        assert file["features"].chunks is None
    assert np.array_equal(read_foreign_features(path).features, features)  # our own files are known as such
    with pytest.raises(BadInput, match="uint8"):
        read_foreign_features(path, layout="hdf5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_px": None}, "'pixels' needs embed.input_px"),
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "'pixels' is no network and takes no embed.pixel_mean"),
    ],
)
def test_what_pixels_cannot_use_is_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        pixels(**changes)


def test_settings_without_an_edge_are_refused():
    with pytest.raises(BadInput, match="encoder pixels needs input_px"):
        parse_settings({"embed": {"encoder": "pixels"}}, where="my.yaml")


def test_the_name_is_known():
    check_encoder_name("pixels")
    with pytest.raises(BadInput, match="did you mean 'pixels'"):
        check_encoder_name("pixel")
