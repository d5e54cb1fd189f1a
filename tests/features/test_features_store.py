import io
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import KIND_VERSIONS
from wsi_kd.features import header_line
from wsi_kd.features.store import (
    FeatureFile,
    TileFile,
    array_hash,
    read_features,
    read_header,
    read_tiles,
    write_features,
    write_tiles,
)

HEADER = {
    "status": "ok",
    "reason": "",
    "slide_mpp": 0.25,
    "mpp_source": "vendor",
    "tile_px": 224,
    "tile_mpp": 0.5,
    "tile_level0_px": 448.4,
    "overlap_px": 16,
    "level0_width": 9000,
    "level0_height": 7000,
    "encoder": "stain_texture",
    "bounds": [0, 0, 9000, 7000],
}


def feature_file(tiles=6, dim=5, dtype=np.float16):
    rng = np.random.default_rng(1)
    return FeatureFile(
        slide_id="slide_1",
        features=rng.normal(size=(tiles, dim)).astype(dtype),
        coords=rng.integers(0, 9000, (tiles, 2)),
        tile_labels=rng.integers(-1, 2, tiles).astype(np.int8),
        header=dict(HEADER),
    )


def tile_file(tiles=4):
    fractions = np.linspace(0.5, 1, tiles, dtype=np.float32)
    coords = np.arange(2 * tiles).reshape(tiles, 2)
    return TileFile("slide_1", coords, fractions, np.full(tiles, -1, np.int8), dict(HEADER))


def same(found, expected):
    return (
        np.array_equal(found.features, expected.features)
        and found.features.dtype == expected.features.dtype
        and np.array_equal(found.coords, expected.coords)
        and np.array_equal(found.tile_labels, expected.tile_labels)
        and found.header.items() >= expected.header.items()
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_features_come_back_bit_for_bit(tmp_path, dtype):
    slide = feature_file(dtype=dtype)
    write_features(tmp_path / "a.h5", slide)
    assert same(read_features(tmp_path / "a.h5"), slide)


def test_tiles_come_back_bit_for_bit(tmp_path):
    tiles = tile_file()
    write_tiles(tmp_path / "a.h5", tiles)
    found = read_tiles(tmp_path / "a.h5")
    assert np.array_equal(found.coords, tiles.coords)
    assert np.array_equal(found.tissue_fraction, tiles.tissue_fraction)
    assert np.array_equal(found.tile_labels, tiles.tile_labels)
    assert found.header == {**HEADER, "kind": "tiles", "schema_version": 1, "slide_id": "slide_1"}


def test_a_slide_without_tiles_keeps_its_dimension(tmp_path):
    write_features(tmp_path / "a.h5", feature_file(tiles=0, dim=7))
    assert read_features(tmp_path / "a.h5").features.shape == (0, 7)


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_features(tmp_path / name, feature_file())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_trident_and_clam_readers_read_our_files(tmp_path):
    slide = feature_file()
    write_features(tmp_path / "a.h5", slide)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert np.array_equal(file["features"][:], slide.features)
        assert np.array_equal(file["coords"][:], slide.coords)
        assert file["features"].chunks is None
        attributes = dict(file["coords"].attrs)
        assert attributes.pop("name") == "slide_1"
        assert attributes == {
            "patch_size": 224,
            "patch_size_level0": 448,
            "level0_magnification": 40.0,
            "target_magnification": 20.0,
            "overlap": 16,
            "level0_width": 9000,
            "level0_height": 7000,
            "savetodir": ".",
        }
        assert isinstance(attributes["patch_size_level0"], np.integer)
        assert file.attrs["mpp_source"] == "vendor"
        assert json.loads(file["header"][()])["bounds"] == [0, 0, 9000, 7000]


def test_the_header_is_read_without_the_arrays(tmp_path):
    path = tmp_path / "a.h5"
    write_features(path, feature_file())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_header(path)["tile_level0_px"] == 448.4
    with pytest.raises(BadInput, match="wsi-kd embed"):
        read_features(path)


def test_a_header_larger_than_hdf5_attributes_allow(tmp_path):
    slide = feature_file()
    names = [f"feature_{k}" for k in range(20_000)]
    write_features(tmp_path / "a.h5", slide._replace(header={**HEADER, "feature_names": names}))
    assert read_header(tmp_path / "a.h5")["feature_names"] == names
    assert same(read_features(tmp_path / "a.h5"), slide)


def test_damaged_bytes_never_give_other_values(tmp_path):
    slide = feature_file(tiles=12)
    path = tmp_path / "a.h5"
    write_features(path, slide)
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    told = []
    for position in rng.integers(0, len(good), 600):
        mutant = bytearray(good)
        mutant[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(mutant)
        try:
            assert same(read_features(path), slide)
        except BadInput as error:
            told.append(str(error))
    assert len(told) > 500
    assert all("wsi-kd embed" in line and "\n" not in line for line in told)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    write_features(path, feature_file())
    good = path.read_bytes()
    for length in range(0, len(good), 97):
        path.write_bytes(good[:length])
        with pytest.raises(BadInput, match="wsi-kd embed"):
            read_features(path)


def test_absent_foreign_and_wrong_kind_files_name_the_command(tmp_path):
    with pytest.raises(BadInput, match=r"no such file; make it with: wsi-kd tile"):
        read_tiles(tmp_path / "absent.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    with pytest.raises(BadInput, match="not written by wsi-kd"):
        read_features(tmp_path / "other.h5")
    write_tiles(tmp_path / "tiles.h5", tile_file())
    with pytest.raises(BadInput, match="holds 'tiles', expected 'features'"):
        read_features(tmp_path / "tiles.h5")
    (tmp_path / "text.h5").write_text("{}\n")
    with pytest.raises(BadInput, match=r"text\.h5"):
        read_features(tmp_path / "text.h5")


def test_another_schema_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(KIND_VERSIONS, "features", 99)
        write_features(tmp_path / "a.h5", feature_file())
    with pytest.raises(BadInput, match="schema version 99"):
        read_features(tmp_path / "a.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, value):
    slide = feature_file()
    slide.features[3, 2] = value
    write_features(tmp_path / "a.h5", slide)
    with pytest.raises(BadInput, match=r"1 tile\(s\) are not finite \(first: tile 3\)"):
        read_features(tmp_path / "a.h5")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """The HDF5 library wrote into the file itself, and crashed where the disk was full."""
    script = (
        "import resource, signal; from pathlib import Path\n"
        "from wsi_kd.features.store import read_features, write_features\n"
        f"slide = read_features(Path({str(tmp_path / 'a.h5')!r}))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        f"write_features(Path({str(tmp_path / 'b.h5')!r}), slide)"
    )
    write_features(tmp_path / "a.h5", feature_file())
    assert (tmp_path / "a.h5").stat().st_size > 3000
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "b.h5: could not be written (File too large)" in done.stderr.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def reseal(path, change):
    """Change the HDF5 part and sign it anew, as someone would who wants to be believed."""
    from wsi_kd.features import store

    header = read_header(path)
    block = header_line.user_block_bytes(path.read_bytes().split(b"\n", 1)[0] + b"\n")
    with h5py.File(path, "r+") as file:
        change(file)
    content = io.BytesIO(path.read_bytes())
    store._seal(content, header, block)
    path.write_bytes(content.getbuffer())


def external_link(file):
    del file["coords"]
    file["coords"] = h5py.ExternalLink("/etc/passwd", "/coords")


def virtual_dataset(file):
    layout = h5py.VirtualLayout(shape=(6, 5), dtype=np.float16)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "features", shape=(6, 5))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def external_storage(file):
    del file["features"]
    shape = (6, 5)
    file.create_dataset("features", shape, np.float16, external=[("/etc/passwd", 0, 60)])


def fewer_rows(file):
    del file["coords"]
    file["coords"] = np.zeros((5, 2), np.int64)


def other_type(file):
    del file["features"]
    file["features"] = np.zeros((6, 5), np.float64)


def huge_and_empty(file):
    del file["features"]
    file.create_dataset("features", (2**40, 1024), np.float16, chunks=(1024, 1024))


def group(file):
    del file["features"]
    file.create_group("features")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_link, "missing or a link"),
        (virtual_dataset, "does not hold its numbers"),
        (external_storage, "does not hold its numbers"),
        (fewer_rows, "one row a tile"),
        (other_type, "expected <f2 <f4"),
        (huge_and_empty, "never filled"),
        (group, "does not hold its numbers"),
    ],
)
def test_hdf5_tricks_are_refused(tmp_path, change, message):
    path = tmp_path / "a.h5"
    write_features(path, feature_file())
    reseal(path, change)
    with pytest.raises(BadInput, match=message):
        read_features(path)


def test_rows_must_agree_before_anything_is_written(tmp_path):
    slide = feature_file()._replace(tile_labels=np.zeros(2, np.int8))
    with pytest.raises(ValueError, match="one row a tile"):
        write_features(tmp_path / "a.h5", slide)
    assert list(tmp_path.iterdir()) == []


def test_the_array_hash_sees_values_shape_and_type():
    zeros = np.zeros((2, 3), np.int16)
    others = (zeros.reshape(3, 2), zeros.astype(np.uint16), zeros + np.int16(1))
    assert len({array_hash(array) for array in (zeros, *others)}) == 4
    assert array_hash(zeros[:, ::-1]) == array_hash(zeros)
