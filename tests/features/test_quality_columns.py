import h5py
import numpy as np
import pytest

from wsi_kd.features.quality_columns import TileQuality
from wsi_kd.features.store import FeatureFile, read_features, write_features


def quality(tiles):
    return TileQuality(*np.random.default_rng(2).random((4, tiles)).astype(np.float32))


def feature_file(tiles=6):
    features = np.random.default_rng(1).normal(size=(tiles, 5)).astype(np.float16)
    coords = np.arange(2 * tiles).reshape(tiles, 2)
    header = {"status": "ok", "reason": "", "encoder": "stain_texture"}
    return FeatureFile("slide_1", features, coords, np.zeros(tiles, np.int8), header)


def test_quality_columns_are_read_back(tmp_path):
    write_features(tmp_path / "a.h5", feature_file()._replace(quality=quality(6)))
    assert np.array_equal(read_features(tmp_path / "a.h5").quality, quality(6))
    with h5py.File(tmp_path / "a.h5") as file:  # as any other program reads it
        assert np.array_equal(file["sharpness"][()], quality(6).sharpness)
        assert file["tissue_fraction"].dtype == file["pen_fraction"].dtype == np.float32


def test_what_nobody_measured_is_minus_one(tmp_path):
    write_features(tmp_path / "a.h5", feature_file())
    assert (np.array(read_features(tmp_path / "a.h5").quality) == -1).all()


def test_columns_need_one_row_a_tile(tmp_path):
    with pytest.raises(ValueError, match="one row a tile"):
        write_features(tmp_path / "a.h5", feature_file()._replace(quality=quality(5)))
