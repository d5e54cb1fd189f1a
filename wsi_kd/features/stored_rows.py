"""A feature file whose numbers stay on disk: checked whole once, its rows read when they are needed.

Rows are read by `pread` and not through a mapping: a file that is cut short meanwhile is then an error and
no SIGBUS, a disk's fault is an error too, a process may have as many files as it likes (65,530 mappings),
and a batch is one array anyway, so that a mapping would save no copy. Processes of one machine share the
system's cache of the file either way.

What was checked is told from what came later by inode, size and time of the last change, asked of the very
descriptor after each read. Two changes within one tick of the file system's clock look like one.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.provenance import check_schema
from wsi_kd.features.checked_bytes import BLOCK_BYTES, CheckedBytes, read_at
from wsi_kd.features.header_line import MAX_HEADER_BYTES, parse_header, user_block_bytes
from wsi_kd.features.store import (
    FEATURE_COLUMNS,
    REMAKE,
    Hdf5Dataset,
    Hdf5File,
    checked_datasets,
    reading_file,
    refuse_rows,
    rows_not_finite,
)

ANNOUNCED_BYTES: Final = 128 << 10
"""The system reads no more ahead at one request, where the disk says nothing else."""
Piece: TypeAlias = tuple[int, memoryview]
"""The number of a row, and the bytes of an array that are filled with it and those behind it."""


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of a contiguous array, to be filled."""
    return array.reshape(-1).view(np.uint8).data


@dataclass(frozen=True, slots=True)
class StoredRows:
    """An array in a file, its rows end to end."""

    path: Path
    identity: FileIdentity
    """Of the file when it was checked."""
    offset: int
    """Where the array begins, in bytes."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sha256: bytes = b""
    """Of the array's bytes; of features alone."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def fill(self, pieces: Iterable[Piece]) -> None:
        """Read rows into the bytes of arrays of this dtype.

        Raises:
            RunFailed: the file is not the one that was checked, or cannot be read any more.
        """
        row_bytes = self.row_bytes
        with self._opened() as descriptor:
            for first, content in pieces:
                read_at(descriptor, content, self.offset + first * row_bytes)
            unchanged = FileIdentity.of(os.fstat(descriptor)) == self.identity
        if not unchanged:
            raise RunFailed(
                f"{self.path}: changed or replaced since it was checked at the start of this training; "
                "run the same command again: every file is checked anew"
            )

    def announce(self) -> None:
        """Ask the system to bring the array into its cache; nobody waits for it."""
        if not hasattr(os, "posix_fadvise"):  # macOS
            return
        end = self.offset + len(self) * self.row_bytes
        with self._opened() as descriptor:
            for start in range(self.offset, end, ANNOUNCED_BYTES):
                length = min(ANNOUNCED_BYTES, end - start)
                os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_WILLNEED)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunFailed(
                f"{self.path}: cannot be read any more ({error.strerror}), in the middle of a training; "
                "run the same command again once it can"
            ) from None


class StoredFeatures(NamedTuple):
    """A checked feature file; the columns as in `FeatureFile`, without those of quality."""

    slide_id: str
    features: StoredRows
    coords: StoredRows
    tile_labels: StoredRows
    header: dict[str, Any]


def check_features(path: Path) -> StoredFeatures:
    """Check every byte of a feature file, and that each feature is finite, holding a block of it at a time.

    Raises:
        BadInput: absent, damaged, changed, of another kind or schema, with arrays in pieces.
        RunFailed: it changes meanwhile.
    """
    remake = REMAKE["features"]
    with reading_file(path, remake=remake), path.open("rb") as handle:
        line = handle.readline(MAX_HEADER_BYTES)
        header, body_sha256 = parse_header(line, path, remake)
        check_schema(header, "features", where=path, remake=remake)
        identity = FileIdentity.of(os.fstat(handle.fileno()))
        content = CheckedBytes(handle.fileno(), head=line.ljust(user_block_bytes(line), b"\0"))
        if content.body_sha256 != body_sha256:
            raise BadInput(f"{path}: changed or damaged since it was written; make it anew with: {remake}")
        with Hdf5File(content, "r") as file:
            datasets = checked_datasets(file, FEATURE_COLUMNS)
            features, coords, tile_labels = (
                _placed(datasets[name], path, identity) for name in ("features", "coords", "tile_labels")
            )
    hashed = replace(features, sha256=_hash_of_finite(features))
    return StoredFeatures(str(header["slide_id"]), hashed, coords, tile_labels, header)


def _placed(dataset: Hdf5Dataset, path: Path, identity: FileIdentity) -> StoredRows:
    """Return where an array lies; HDF5 counts from the file's first byte, the user block's."""
    offset = dataset.id.get_offset()
    if offset is None and len(dataset):
        raise BadInput(
            f"{path}: '{dataset.name}' does not lie in one piece, so it cannot be read from disk row by row; "
            f"set train.features_in to memory, or make the file anew with: {REMAKE['features']}"
        )
    return StoredRows(path, identity, offset or 0, tuple(map(int, dataset.shape)), dataset.dtype)


def _hash_of_finite(features: StoredRows) -> bytes:
    """Return the sha256 of the features, read block by block.

    Raises:
        BadInput: some are not finite.
    """
    digest, bad_rows = hashlib.sha256(), []
    block = np.empty((max(1, BLOCK_BYTES // max(1, features.row_bytes)), *features.shape[1:]), features.dtype)
    for start in range(0, len(features), len(block)):
        rows = block[: len(features) - start]
        features.fill([(start, bytes_of(rows))])
        digest.update(rows.data)
        bad_rows += [start + row for row in rows_not_finite(rows)]
    refuse_rows(bad_rows, where=features.path, remake=REMAKE["features"])
    return digest.digest()
