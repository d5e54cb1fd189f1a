"""A feature file checked whole and left on disk: the rows of `read_features`, and what changes is noticed."""

import hashlib
import io
import os
import tracemalloc

import h5py
import numpy as np
import pytest

from wsi_kd.bags.rows import RowsOnDisk
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.provenance import stamp
from wsi_kd.features import store, stored_rows
from wsi_kd.features.checked_bytes import BLOCK_BYTES, CheckedBytes
from wsi_kd.features.header_line import header_line, user_block_bytes
from wsi_kd.features.store import FeatureFile, read_features, write_features
from wsi_kd.features.stored_rows import bytes_of, check_features

HEADER = {"status": "ok", "slide_mpp": 0.5, "tile_px": 256, "tile_mpp": 0.5}


def write(path, *, tiles=40, width=6, dtype="float16", note=""):
    rng = np.random.default_rng(tiles)
    features = (100 * rng.normal(size=(tiles, width))).astype(dtype)
    coords = rng.integers(0, 9999, (tiles, 2))
    labels = rng.integers(-1, 2, tiles).astype(np.int8)
    header = {**stamp("features", {}), **HEADER, "note": note}
    write_features(path, FeatureFile(path.stem, features, coords, labels, header))
    return path


def taken(rows, first=0, count=None):
    out = np.empty((len(rows) - first if count is None else count, *rows.shape[1:]), rows.dtype)
    rows.fill([(first, bytes_of(out))])
    return out


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("note", ["", "x" * 3000])
def test_rows_on_disk_are_those_that_are_read_whole(tmp_path, dtype, note):
    """User blocks of 512 bytes and of 4096: HDF5 must count its offsets from the file's first byte."""
    path = write(tmp_path / "a.h5", dtype=dtype, note=note)
    whole, stored = read_features(path), check_features(path)
    assert (stored.slide_id, stored.header) == (whole.slide_id, whole.header)
    for name in ("features", "coords", "tile_labels"):
        rows, array = getattr(stored, name), getattr(whole, name)
        assert (rows.shape, rows.dtype, len(rows)) == (array.shape, array.dtype, 40)
        np.testing.assert_array_equal(taken(rows), array)
        np.testing.assert_array_equal(taken(rows, 7, 3), array[7:10])
    assert stored.features.sha256 == hashlib.sha256(whole.features.tobytes()).digest()
    assert path.read_bytes()[stored.features.offset :].startswith(whole.features.tobytes())


def test_large_arrays_begin_at_a_line_of_the_processors_cache(tmp_path):
    """And so does what they are read into: copies are fastest where both lie alike."""
    stored = check_features(write(tmp_path / "a.h5", tiles=1000))
    assert (stored.features.offset % 64, stored.coords.offset % 64) == (0, 0)
    rows = RowsOnDisk([stored.features])
    assert {rows[start:].ctypes.data % 64 for start in range(20)} == {0}


def test_pieces_of_one_file_are_read_in_any_order(tmp_path):
    path = write(tmp_path / "a.h5")
    rows, array = check_features(path).features, read_features(path).features
    out = np.empty((3, 6), rows.dtype)
    rows.fill([(39, bytes_of(out[:1])), (0, bytes_of(out[1:2])), (39, bytes_of(out[2:]))])
    np.testing.assert_array_equal(out, array[[39, 0, 39]])


def test_no_byte_can_differ(tmp_path):
    """Every 97th byte, of the header every 7th: refused, or (bytes that nobody reads) the same rows."""
    path = write(tmp_path / "a.h5", tiles=5)
    content, whole = path.read_bytes(), read_features(path).features
    block = user_block_bytes(content.split(b"\n", 1)[0] + b"\n")
    assert block == 1024
    read, said = [], set()
    for position in [*range(0, 400, 7), *range(400, len(content), 97), len(content) - 1]:
        changed = bytearray(content)
        changed[position] ^= 0x40
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(taken(check_features(path).features), whole)
            read.append(position)
        except BadInput as error:
            said.add("wsi-kd embed" in str(error))
    assert said == {True}
    assert all(content[:block].find(b"\n") < position < block for position in read)
    path.write_bytes(content[:-1])
    with pytest.raises(BadInput, match="changed or damaged since it was written"):
        check_features(path)


def test_numbers_that_are_not_finite_are_refused_in_the_same_words(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_rows, "BLOCK_BYTES", 3 * 12)  # three rows
    header = {**stamp("features", {}), **HEADER}
    features = np.ones((9, 6), np.float16)
    features[[4, 8], 2] = np.nan, np.inf
    path = tmp_path / "a.h5"
    coords, labels = np.zeros((9, 2), np.int64), np.zeros(9, np.int8)
    write_features(path, FeatureFile("a", features, coords, labels, header))
    said = []
    for read in (read_features, check_features):
        with pytest.raises(
            BadInput, match=r"features of 2 tile\(s\) are not finite \(first: tile 4\)"
        ) as error:
            read(path)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_an_array_in_pieces_is_refused_with_a_way_out(tmp_path):
    """A sealed file of ours whose features are compressed: read whole, but not row by row."""
    path = write(tmp_path / "a.h5")
    content, whole = io.BytesIO(path.read_bytes()), read_features(path)
    header = {key: value for key, value in whole.header.items() if key != "body_sha256"}
    with h5py.File(content, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=whole.features, chunks=(5, 6), compression="gzip")
    store._seal(content, header, user_block_bytes(header_line(header, "0" * 64)))
    path.write_bytes(content.getbuffer())
    np.testing.assert_array_equal(read_features(path).features, whole.features)
    with pytest.raises(BadInput, match=r"'/features' does not lie in one piece.*features_in to memory"):
        check_features(path)


def overwritten(path):
    with path.open("r+b") as handle:
        handle.seek(-100, os.SEEK_END)
        handle.write(b"x")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replaced(path):
    content, before = path.read_bytes(), path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def cut_short(path):
    before = path.stat()
    os.truncate(path, before.st_size // 2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [overwritten, replaced, cut_short])
def test_a_file_that_changes_is_noticed_at_the_next_read(tmp_path, change):
    rows = check_features(write(tmp_path / "a.h5")).features
    taken(rows)
    change(tmp_path / "a.h5")
    with pytest.raises(
        RunFailed, match=r"a\.h5: changed or replaced since it was checked.*same command again"
    ):
        taken(rows)


def test_a_file_that_changes_during_a_read_is_noticed(tmp_path, monkeypatch):
    rows = check_features(write(tmp_path / "a.h5")).features
    read_at = stored_rows.read_at

    def changing(*arguments):
        overwritten(tmp_path / "a.h5")
        return read_at(*arguments)

    monkeypatch.setattr(stored_rows, "read_at", changing)
    with pytest.raises(RunFailed, match="changed or replaced"):
        taken(rows)


def test_a_file_that_is_gone_is_one_line(tmp_path):
    rows = check_features(write(tmp_path / "a.h5")).features
    (tmp_path / "a.h5").unlink()
    for ask in (rows.announce, lambda: taken(rows)):
        with pytest.raises(RunFailed, match=r"a\.h5: cannot be read any more \(No such file"):
            ask()


def test_all_of_an_array_is_announced_and_nothing_else(tmp_path, monkeypatch):
    rows = check_features(write(tmp_path / "a.h5", tiles=30_000)).features
    asked = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, length, advice: asked.append((start, length, advice))
    )
    rows.announce()
    assert {advice for _, _, advice in asked} == {os.POSIX_FADV_WILLNEED}
    assert max(length for _, length, _ in asked) == 128 << 10
    ends = [rows.offset, *(start + length for start, length, _ in asked)]
    assert ends[:-1] == [start for start, _, _ in asked]
    assert ends[-1] - rows.offset == 30_000 * 12


def test_a_check_holds_no_file(tmp_path):
    path = write(tmp_path / "a.h5", tiles=20_000, width=256)  # 10 MB
    tracemalloc.start()
    check_features(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20


def checked_bytes(path, *, head=b"a head"):
    descriptor = os.open(path, os.O_RDONLY)
    return CheckedBytes(descriptor, head=head), descriptor


def test_checked_bytes_are_the_head_and_what_was_hashed(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 3 * BLOCK_BYTES + 17, dtype=np.uint8).tobytes()
    (tmp_path / "a").write_bytes(content)
    checked, descriptor = checked_bytes(tmp_path / "a")
    expected = b"a head" + content[6:]
    assert checked.body_sha256 == hashlib.sha256(content[6:]).hexdigest()
    assert checked.read() == expected
    assert checked.seek(0, os.SEEK_END) == len(content) == checked.tell()
    rng = np.random.default_rng(1)
    for start in [
        0,
        3,
        6,
        BLOCK_BYTES + 5,
        BLOCK_BYTES + 6,
        len(content) - 2,
        *rng.integers(0, len(content), 30),
    ]:
        length = int(rng.integers(1, 2 * BLOCK_BYTES))
        checked.seek(int(start))
        assert checked.read(length) == expected[start : start + length]
    os.close(descriptor)


def test_a_block_that_changed_after_it_was_hashed_is_not_handed_out(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * BLOCK_BYTES))
    checked, descriptor = checked_bytes(tmp_path / "a")
    with (tmp_path / "a").open("r+b") as handle:
        handle.seek(6 + BLOCK_BYTES + 3)
        handle.write(b"x")
    assert checked.read(6 + BLOCK_BYTES) == b"a head" + bytes(BLOCK_BYTES)
    with pytest.raises(ValueError, match="it changed while it was read"):
        checked.read(1)
    os.truncate(tmp_path / "a", 6 + 2 * BLOCK_BYTES + 9)
    checked.seek(6 + 2 * BLOCK_BYTES)
    with pytest.raises(ValueError, match="it changed while it was read"):
        checked.read(1)
    os.close(descriptor)


def test_hdf5_is_not_shown_what_changed_after_it_was_hashed(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    shown = stored_rows.Hdf5File

    def changed_first(content, mode):
        position = user_block_bytes(path.read_bytes().split(b"\n", 1)[0] + b"\n")
        with path.open("r+b") as handle:
            handle.seek(position + 40)
            handle.write(b"\xff" * 8)
        return shown(content, mode)

    monkeypatch.setattr(stored_rows, "Hdf5File", changed_first)
    with pytest.raises(BadInput, match=r"a\.h5: not readable \(it changed while it was read\)"):
        check_features(path)
