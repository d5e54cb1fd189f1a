"""Our features through the access patterns of other readers: TRIDENT, CLAM, Patho-Bench, STAMP, torchmil.

Each test does with h5py, NumPy or torch what those readers do (read in their sources, written anew here).
"""

import h5py
import numpy as np
import pytest
import torch
from given_features import LEVEL0_PX, draw_coords, draw_features

from wsi_kd.core.errors import SlideProblem
from wsi_kd.features.foreign import read_foreign_slide
from wsi_kd.features.foreign_export import EXPORTS, write_foreign
from wsi_kd.features.foreign_folders import find_foreign
from wsi_kd.features.store import FeatureFile, read_features, write_features

HEADER = {
    "slide_id": "s1",
    "status": "ok",
    "reason": "",
    "tile_px": 256,
    "tile_mpp": 0.5,
    "overlap_px": 0,
    "tile_level0_px": 512.0,
    "slide_mpp": 0.25,
    "mpp_source": "vendor",
    "level0_width": 4096,
    "level0_height": 4096,
    "encoder": "hf-hub:MahmoodLab/UNI2-h",
    "feature_dim": 6,
}
LABELS = np.array([1, 0] * 6, np.int8)


def ours(**changes: object) -> FeatureFile:
    features = draw_features(3).astype(np.float16)
    return FeatureFile("s1", features, draw_coords(), LABELS, {**HEADER, **changes})


def test_trident_and_patho_bench_read_our_own_file(tmp_path):
    write_features(tmp_path / "s1.h5", ours())
    with h5py.File(tmp_path / "s1.h5", "r") as file:  # TRIDENT: read_coords and the slide encoders
        attributes = dict(file["coords"].attrs)
        coords = file["coords"][:]
        features = torch.from_numpy(file["features"][:])
    assert attributes["patch_size_level0"] == LEVEL0_PX
    assert (attributes["patch_size"], attributes["overlap"]) == (256, 0)
    assert (attributes["target_magnification"], attributes["level0_magnification"]) == (20.0, 40.0)
    assert coords.dtype == np.int64
    assert features.shape == (12, 6)
    with h5py.File(tmp_path / "s1.h5", "r") as file:  # Patho-Bench: every asset and all attributes by key
        assets = {key: file[key][:] for key in ("features", "coords")}
        told = {key: dict(file[key].attrs) for key in assets}
    assert torch.from_numpy(assets["features"]).unsqueeze(0).shape == (1, 12, 6)
    assert told["coords"]["patch_size_level0"] == LEVEL0_PX
    assert told["features"]["encoder"] == HEADER["encoder"]


def test_clams_dataset_reads_our_own_file_and_both_exports(tmp_path):
    write_features(tmp_path / "h5_files/s1.h5", ours())
    for folder in (tmp_path, tmp_path / "clam"):
        if folder != tmp_path:
            write_foreign(folder, ours(), layout="clam", label=None)
        with h5py.File(folder / "h5_files/s1.h5", "r") as file:  # Generic_MIL_Dataset with use_h5
            features = torch.from_numpy(file["features"][:])
            coords = file["coords"][:]
        assert np.array_equal(features.float().numpy(), ours().features.astype(np.float32))
        assert np.array_equal(coords, draw_coords())
    with h5py.File(tmp_path / "clam/patches/s1.h5", "r") as file:  # Whole_Slide_Bag_FP
        edge, level = (file["coords"].attrs[key] for key in ("patch_size", "patch_level"))
    assert (edge, level) == (LEVEL0_PX, 0)
    write_foreign(tmp_path, ours(), layout="clam_pt", label=None)
    bag = torch.load(tmp_path / "pt_files/s1.pt", weights_only=True)  # Generic_MIL_Dataset without it
    assert bag.dtype == torch.float32
    assert np.array_equal(bag.numpy(), ours().features.astype(np.float32))


def test_torchmils_trident_dataset_finds_both_files(tmp_path):
    write_foreign(tmp_path, ours(), layout="trident", label=None)
    top = f"{tmp_path}/20x_256px_0px_overlap/"
    features = h5py.File(top + "features_hf-hub_MahmoodLab_UNI2-h/s1.h5", "r")["features"][:]
    coords = h5py.File(top + "patches/s1_patches.h5", "r")["coords"][:]
    assert features.shape == (12, 6)
    grid = (coords / LEVEL0_PX - np.min(coords / LEVEL0_PX, axis=0)).astype(int)
    assert grid.max(axis=0).tolist() == [3, 2]
    kept = read_features(tmp_path / "20x_256px_0px_overlap/features_hf-hub_MahmoodLab_UNI2-h/s1.h5")
    assert np.array_equal(kept.tile_labels, LABELS)  # still our file, hash and labels with it


def test_torchmils_processed_dataset_loads_four_folders(tmp_path):
    write_foreign(tmp_path, ours(), layout="torchmil", label=1)
    loaded = {
        name: np.load(tmp_path / name / "s1.npy") for name in ("features", "coords", "labels", "inst_labels")
    }
    assert loaded["features"].dtype == np.float32
    assert loaded["labels"].tolist() == [1]
    assert loaded["inst_labels"].tolist() == LABELS.tolist()
    unknown = ours()._replace(tile_labels=np.full(12, -1, np.int8))
    write_foreign(tmp_path / "b", unknown, layout="torchmil", label=None)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["coords", "features"]


def test_stamps_bag_dataset_reads_um(tmp_path):
    (path,) = write_foreign(tmp_path, ours(), layout="stamp", label=None)
    with h5py.File(path, "r") as file:  # BagDataset and get_coords
        bag = torch.from_numpy(file["feats"][:]).float()
        assert file.attrs.get("tile_size_um") == 128.0
        assert file.attrs.get("unit") == "um"
        assert file.attrs.get("feat_type") == "tile"
        coords_um = file["coords"][:]
    assert bag.shape == (12, 6)
    assert np.array_equal(coords_um, draw_coords() * np.float32(0.25))


@pytest.mark.parametrize("layout", EXPORTS)
def test_what_is_written_comes_back(tmp_path, layout):
    write_foreign(tmp_path, ours(), layout=layout, label=0)
    found = find_foreign(tmp_path)
    assert found.layout == ("wsi_kd" if layout == "trident" else layout)
    back = read_foreign_slide(found.slides["s1"], slide_mpp=0.25)
    assert np.array_equal(back.features, ours().features.astype(back.features.dtype))
    if layout != "clam_pt":
        assert np.array_equal(back.coords, draw_coords())
        assert back.header["tile_level0_px"] == LEVEL0_PX


@pytest.mark.parametrize(
    ("layout", "changes", "told"),
    [
        ("trident", {"tile_mpp": 0.0}, "do not tell tile_mpp"),
        ("stamp", {"slide_mpp": 0.0}, "do not tell slide_mpp"),
    ],
)
def test_what_a_layout_needs_is_a_status(tmp_path, layout, changes, told):
    with pytest.raises(SlideProblem, match=told):
        write_foreign(tmp_path, ours(**changes), layout=layout, label=None)
    assert list(tmp_path.iterdir()) == []


def test_stamps_float16_refuses_what_it_cannot_hold(tmp_path):
    large = ours()._replace(features=draw_features(3) * np.float32(1e6))
    with pytest.raises(SlideProblem, match="float16 cannot hold"):
        write_foreign(tmp_path, large, layout="stamp", label=None)
