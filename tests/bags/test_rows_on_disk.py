"""Bags left on disk are the bags in memory, row by row; nothing else of them is held."""

import numpy as np
import pytest
import torch
from bags_on_disk import HEADER, loaded_from_files

from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.packing import copied_to, pack
from wsi_kd.bags.rows import RowsOnDisk
from wsi_kd.core.errors import BadInput, RunFailed

SIZES = (3, 1, 5, 2)


def drawn(dtype="float16", width=4):
    rng = np.random.default_rng(0)
    count = sum(SIZES)
    return BagSet(
        slide_ids=tuple("abcd"),
        features=(50 * rng.normal(size=(count, width))).astype(dtype),
        offsets=np.cumsum([0, *SIZES]).astype(np.int64),
        labels=np.array([0, 1, 0, 1]),
        tile_labels=rng.integers(-1, 2, count).astype(np.int8),
        coords=rng.integers(0, 999, (count, 2)),
        header={},
    )


@pytest.fixture
def both(tmp_path):
    """In memory and on disk."""
    return tuple(loaded_from_files(drawn(), tmp_path, on_disk=on_disk) for on_disk in (False, True))


def assert_same(first, second):
    assert first.slide_ids == second.slide_ids
    assert first.header == second.header
    for name in ("features", "offsets", "labels", "tile_labels", "coords"):
        array, rows = getattr(first, name), getattr(second, name)
        assert (array.shape, array.dtype, array.nbytes, len(array)) == (
            rows.shape,
            rows.dtype,
            rows.nbytes,
            len(rows),
        )
        np.testing.assert_array_equal(array, rows[:])


def test_both_hold_the_same_bags(both):
    memory, disk = both
    assert isinstance(memory.features, np.ndarray)
    assert all(isinstance(rows, RowsOnDisk) for rows in (disk.features, disk.coords, disk.tile_labels))
    assert_same(memory, disk)
    np.testing.assert_array_equal(memory.features, drawn().features)
    assert_same(memory.select(["d", "a"]), disk.select(["d", "a"]))
    assert disk.select(["d", "a"]).features[:].tolist() == drawn().features[[9, 10, 0, 1, 2]].tolist()


def test_every_stretch_of_rows_is_the_arrays(both):
    array, rows = (bags.features for bags in both)
    for start in range(-2, 13):
        for stop in range(-2, 13):
            np.testing.assert_array_equal(rows[start:stop], array[start:stop])
    np.testing.assert_array_equal(rows[4:], array[4:])
    np.testing.assert_array_equal(rows[:0], array[:0])


@pytest.mark.parametrize("listed", [[], [10], [3, 0, 10, 3, 4, 9, 0], list(range(10, -1, -1))])
def test_listed_rows_are_the_arrays(both, listed):
    memory, disk = both
    np.testing.assert_array_equal(disk.features[listed], memory.features[listed])
    order = np.array(listed, np.int64)
    np.testing.assert_array_equal(disk.coords[order], memory.coords[order])


@pytest.mark.parametrize("rows", [[11], [-1], [0, 99], slice(None, None, 2), slice(None, None, -1)])
def test_rows_that_are_not_there_are_an_error_and_no_other_rows(both, rows):
    with pytest.raises(IndexError):
        both[1].features[rows]


def test_a_listed_file_is_opened_once(both, monkeypatch):
    opened = []
    fill = type(both[1].features.parts[0]).fill

    def counting(part, pieces):
        opened.append(part.path.name)
        fill(part, pieces)

    monkeypatch.setattr("wsi_kd.features.stored_rows.StoredRows.fill", counting)
    both[1].features[[10, 0, 9, 1, 2]]
    assert opened == ["a.h5", "d.h5"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_packed_bags_are_the_same(tmp_path, dtype):
    memory, disk = (loaded_from_files(drawn(dtype), tmp_path, on_disk=on_disk) for on_disk in (False, True))
    for order in ([2], [3, 0, 2]):
        first, second = (pack(bags, order, device="cpu", dtype=torch.float32) for bags in (memory, disk))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_what_goes_to_a_card_whole_is_copied_in_blocks(both, monkeypatch):
    monkeypatch.setattr("wsi_kd.bags.packing.ROWS_AT_ONCE", 4)
    for bags in both:
        held = copied_to(torch.device("cpu"), bags.features)
        assert held.dtype == torch.float16
        np.testing.assert_array_equal(held.numpy(), both[0].features)


def test_announced_are_the_features_of_these_bags(both, monkeypatch):
    asked = []

    def note(rows):
        asked.append(rows)

    monkeypatch.setattr("wsi_kd.features.stored_rows.StoredRows.announce", note)
    memory, disk = both
    memory.announce([0, 1])
    assert asked == []
    disk.announce([2, 0])
    assert [(rows.path.name, rows.shape) for rows in asked] == [("c.h5", (5, 4)), ("a.h5", (3, 4))]


def test_a_changed_file_ends_what_takes_its_rows(both, tmp_path):
    features = both[1].features
    (tmp_path / "c.h5").write_bytes(b"other")
    assert features[:4].shape == (4, 4)
    for rows in (slice(3, 5), [0, 8]):
        with pytest.raises(RunFailed, match=r"c\.h5: changed or replaced"):
            features[rows]


@pytest.mark.parametrize("on_disk", [False, True])
def test_both_refuse_the_same(tmp_path, on_disk):
    loaded_from_files(drawn(), tmp_path, on_disk=on_disk)
    odd = drawn(width=3).select(["b"])._replace(header={**HEADER, "encoder": "other"})
    (tmp_path / "b.h5").unlink()
    loaded_from_files(odd, tmp_path, on_disk=on_disk)
    rows = [SlideRow(name, tmp_path / name, "n", name, "", None, None, "") for name in "abcdef"]
    with pytest.raises(BadInput, match=r"no feature files of: e, f"):
        load_bags(tmp_path, rows, ["n"], on_disk=on_disk)
    told = r"1 slides have other features than a: b \(encoder other instead of e, dimension 3 instead of 4\)"
    with pytest.raises(BadInput, match=told):
        load_bags(tmp_path, rows[:4], ["n"], on_disk=on_disk)
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    with pytest.raises(BadInput, match=r"b\.h5: holds the slide 'a'"):
        load_bags(tmp_path, rows[:2], ["n"], on_disk=on_disk)
