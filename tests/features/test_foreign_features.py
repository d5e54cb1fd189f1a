import h5py
import numpy as np
import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.features.foreign_checks import feature_faults
from wsi_kd.features.store import read_features, write_features

FEATURES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
COORDS = np.array([[0, 0], [512, 0], [0, 512], [512, 512]], np.int64)


def write(path, *, features=FEATURES, coords=COORDS, key="features", attributes=(), root=()):
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=features, chunks=(1, *features.shape[1:]))
        file.create_dataset("coords", data=coords)
        file["coords"].attrs.update(dict(attributes))
        file.attrs.update(dict(root))
    return path


def test_trident(tmp_path):
    attributes = {"patch_size": 256, "patch_size_level0": 511.6, "overlap": 0, "name": "s"}
    found = read_foreign_features(write(tmp_path / "slide_7.h5", attributes=attributes))
    assert found.slide_id == "slide_7"
    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.coords, COORDS)
    assert found.header["tile_level0_px"] == 511.6
    assert found.header["foreign"] == attributes
    assert found.tile_labels.tolist() == [-1] * 4


def test_tridents_batch_axis(tmp_path):
    found = read_foreign_features(write(tmp_path / "a.h5", features=FEATURES[None].copy()))
    assert np.array_equal(found.features, FEATURES)


def test_clams_h5_has_no_attributes(tmp_path):
    found = read_foreign_features(write(tmp_path / "a.h5", coords=COORDS.astype(np.int32)))
    assert found.coords.dtype == np.int64
    assert (found.header["tile_px"], found.header["slide_mpp"]) == (0, 0.0)


def test_clams_pt(tmp_path):
    torch.save(torch.from_numpy(FEATURES), tmp_path / "a.pt")
    found = read_foreign_features(tmp_path / "a.pt")
    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.coords, np.zeros((4, 2), np.int64))
    torch.save({"not": "a tensor"}, tmp_path / "b.pt")
    with pytest.raises(BadInput, match="expected one tensor"):
        read_foreign_features(tmp_path / "b.pt")


def test_stamps_micrometers_become_level0_pixels(tmp_path):
    root = {"extractor": "ctranspath", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224}
    path = write(
        tmp_path / "a.h5",
        key="feats",
        features=FEATURES.astype(np.float16),
        coords=(COORDS * 0.25).astype(np.float32),
        root=root,
    )
    found = read_foreign_features(path, slide_mpp=0.25)
    assert np.array_equal(found.coords, COORDS)
    assert found.features.dtype == np.float16
    assert (found.header["tile_level0_px"], found.header["tile_mpp"]) == (1024.0, 256 / 224)
    with pytest.raises(BadInput, match="column slide_mpp"):
        read_foreign_features(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coords": COORDS[:3]}, "4 features but 3 coordinates"),
        ({"features": FEATURES * np.nan}, "not finite"),
        ({"features": FEATURES.astype(np.int64)}, "type int64"),
        ({"features": FEATURES[:, 0]}, r"expected \(tiles, features\)"),
        ({"key": "embeddings"}, "'features' is missing"),
    ],
)
def test_files_of_no_use_are_one_line(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        read_foreign_features(write(tmp_path / "a.h5", **changes))


def test_absent_and_broken_files(tmp_path):
    for name in ("a.h5", "a.pt"):
        with pytest.raises(BadInput, match="no such file"):
            read_foreign_features(tmp_path / name)
        (tmp_path / name).write_bytes(b"no features")
        with pytest.raises(BadInput, match=name):
            read_foreign_features(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.full((4, 3), 1e300)}, "not finite"),
        ({"coords": COORDS * 1e300}, "beyond any slide"),
        ({"coords": np.full((4, 2), 2**64 - 1, np.uint64)}, "beyond any slide"),
    ],
)
def test_numbers_that_no_slide_reaches_are_refused_and_not_wrapped_around(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        read_foreign_features(write(tmp_path / "a.h5", **changes))


def test_odd_attributes_do_not_keep_a_slide_from_being_written(tmp_path):
    """Texts that are no UTF-8 and numbers that HDF5 has no whole number for."""
    attributes = {"name": b"M\xfcller", "patch_size": 1e300, "level0_width": 1e300, "overlap": -5}
    found = read_foreign_features(write(tmp_path / "a.h5", attributes=attributes))
    assert found.header["foreign"]["name"] == "M\N{REPLACEMENT CHARACTER}ller"
    assert (found.header["tile_px"], found.header["level0_width"], found.header["overlap_px"]) == (0, 0, 0)
    write_features(tmp_path / "b.h5", found)
    assert np.array_equal(read_features(tmp_path / "b.h5").features, FEATURES)


def test_a_tensor_that_remembers_gradients_is_read_and_an_odd_one_refused(tmp_path):
    torch.save(torch.from_numpy(FEATURES).requires_grad_(), tmp_path / "a.pt")
    assert np.array_equal(read_foreign_features(tmp_path / "a.pt").features, FEATURES)
    for odd in (torch.from_numpy(FEATURES).to_sparse(), torch.zeros(4, 0)):
        torch.save(odd, tmp_path / "b.pt")
        with pytest.raises(BadInput, match="expected one tensor"):
            read_foreign_features(tmp_path / "b.pt")


def test_a_tile_that_begins_at_the_slides_edge_is_beyond_it(tmp_path):
    path = write(tmp_path / "a.h5", attributes={"level0_width": 512, "level0_height": 513})
    assert feature_faults(read_foreign_features(path)) == ("2 tiles begin beyond the slide's 512x513 px",)
