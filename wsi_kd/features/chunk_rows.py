"""One row a chunk, as TRIDENT writes: read along the file instead of chunk by chunk.

HDF5 looks up, copies and converts every chunk on its own; 15,000 chunks of a row each take it half a second a
slide. Such chunks lie one behind the other but for the library's index between them, so their places are
asked once and each run of neighbors is read at a stroke. Everything else is left to the library.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from wsi_kd.features.store import Hdf5Dataset

FEWEST_ROWS: Final = 256
"""Below this the library is as fast."""
SHORTEST_RUN: Final = 8
"""Rows a run on average, below which the file is too scattered."""


def read_dataset(dataset: Hdf5Dataset, path: Path) -> np.ndarray:
    """Return a whole dataset of the file `path`, exactly as `dataset[()]` does.

    Raises:
        OSError: the file is shorter than its own index says.
    """
    if not _is_row_chunked(dataset):
        return np.asarray(dataset[()])
    offsets = _row_offsets(dataset)
    runs = np.flatnonzero(np.diff(offsets) != dataset.dtype.itemsize * dataset.shape[1]) + 1
    if (offsets < 0).any() or (len(runs) + 1) * SHORTEST_RUN > len(offsets):
        return np.asarray(dataset[()])  # rows never written, which the library fills, or a scattered file
    rows = np.empty(dataset.shape, dataset.dtype)
    with path.open("rb") as handle:
        for start, end in zip([0, *runs], [*runs, len(rows)], strict=True):
            handle.seek(int(offsets[start]))
            target = rows[start:end].reshape(-1).view(np.uint8).data
            if handle.readinto(target) != target.nbytes:
                raise OSError(f"'{dataset.name}' ends before its row {end}")
    return rows


def _is_row_chunked(dataset: Hdf5Dataset) -> bool:
    """Tell whether rows lie in the file as they are: one a chunk, nothing filtered, plain numbers."""
    return (
        dataset.ndim == 2  # noqa: PLR2004 - rows and columns
        and dataset.chunks == (1, dataset.shape[1])
        and len(dataset) >= FEWEST_ROWS
        and dataset.id.get_create_plist().get_nfilters() == 0
        and dataset.dtype.kind in "iuf"
        and dataset.file.userblock_size == 0
    )


def _row_offsets(dataset: Hdf5Dataset) -> np.ndarray:
    """Return where each row begins in the file; -1 where it was never written."""
    offsets = np.full(len(dataset), -1, np.int64)

    def note(chunk: Any) -> None:
        if chunk.chunk_offset[0] < len(offsets) and chunk.byte_offset is not None:
            offsets[chunk.chunk_offset[0]] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return offsets
