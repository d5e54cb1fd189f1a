"""Rows read along the file are the rows the library reads, and what is not so laid out is left to it."""

import h5py
import numpy as np
import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.features.chunk_rows import FEWEST_ROWS, read_dataset
from wsi_kd.features.foreign import read_foreign_features

ROWS = 2 * FEWEST_ROWS
VALUES = np.random.default_rng(0).normal(size=(ROWS, 7))


def write(path, values, **options):
    settings = {"chunks": (1, *values.shape[1:]), "maxshape": (None, *values.shape[1:]), **options}
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **settings)
        file.create_dataset("y", data=values[:, :2].astype(np.int64), chunks=(1, 2))


@pytest.mark.parametrize("kind", ["<f4", "<f2", ">f4", "<i8"])
def test_rows_come_back_bit_for_bit(tmp_path, kind):
    path = tmp_path / "a.h5"
    values = (VALUES * 1000).astype(kind)
    write(path, values)
    with h5py.File(path, "r") as file:
        found = read_dataset(file["x"], path)
        assert found.dtype == np.dtype(kind)
        assert np.array_equal(found, values)
        assert np.array_equal(read_dataset(file["y"], path), values[:, :2].astype(np.int64))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"chunks": (32, 7)},
        {"chunks": (1, 3)},
        {"fletcher32": True},
        {"shuffle": True},
    ],
)
def test_other_layouts_are_left_to_the_library(tmp_path, options):
    path = tmp_path / "a.h5"
    write(path, VALUES, **options)
    with h5py.File(path, "r") as file:
        assert np.array_equal(read_dataset(file["x"], path), VALUES)


def test_rows_never_written_are_zeros_as_the_library_says(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape=VALUES.shape, chunks=(1, 7), dtype="<f4")
        dataset[: ROWS - 1] = VALUES[:-1]
    with h5py.File(path, "r") as file:
        found = read_dataset(file["x"], path)
    assert not found[-1].any()
    assert np.array_equal(found[:-1], VALUES[:-1].astype(np.float32))


def test_rows_written_in_another_order_and_appended(tmp_path):
    path = tmp_path / "a.h5"
    order = np.random.default_rng(1).permutation(ROWS)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape=VALUES.shape, chunks=(1, 7), dtype="<f8", maxshape=(None, 7))
        for row in order:  # every row of its own: scattered, so the library reads it
            dataset[row] = VALUES[row]
        dataset.resize(ROWS + FEWEST_ROWS, axis=0)
        dataset[ROWS:] = VALUES[:FEWEST_ROWS]
    with h5py.File(path, "r") as file:
        assert np.array_equal(read_dataset(file["x"], path), np.concatenate([VALUES, VALUES[:FEWEST_ROWS]]))


def test_a_file_that_was_cut_is_one_line(tmp_path):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        for name, values in (
            ("coords", VALUES[:, :2].astype(np.int64)),
            ("features", VALUES.astype(np.float32)),
        ):
            file.create_dataset(name, data=values, chunks=(1, values.shape[1]))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 4096])
    with pytest.raises(BadInput, match=r"s.h5: not readable"):
        read_foreign_features(path)
