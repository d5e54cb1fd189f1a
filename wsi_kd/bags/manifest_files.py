"""The files that a manifest's rows name: whether they are there, and where those in storage are copied to."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from wsi_kd.bags.slide_files import is_regular_file, is_slide_path
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput

STORAGE_COPIES: Final = Path(".snakemake/storage")
"""Where Snakemake copies files in storage to, below the folder it runs in (its --local-storage-prefix)."""
_ADDRESS = re.compile(r"([a-z][a-z0-9]*)://([^/]+/.+)")

NamedFile = tuple[str, Path]
"""A slide id and a file of it."""


def is_address(cell: str) -> bool:
    """Tell whether a cell names a file in storage: `s3://bucket/key` and the like.

    >>> is_address("s3://scans/P1.svs"), is_address("P1.svs"), is_address("C://P1.svs")
    (True, False, False)
    """
    return _ADDRESS.fullmatch(cell) is not None


def local_copy(address: str) -> Path:
    """Return where Snakemake copies a file in storage to while a job needs it.

    >>> local_copy("s3://scans/2024/P1.svs").as_posix()
    '.snakemake/storage/s3/scans/2024/P1.svs'

    Raises:
        BadInput: an address whose copy would lie elsewhere (`..`, empty steps).
    """
    found = _ADDRESS.fullmatch(address)
    steps = [] if found is None else found[2].split("/")
    if found is None or not all(steps) or {".", ".."} & set(steps):
        raise BadInput(f"{address!r}: no plain address; expected one such as s3://bucket/folder/slide.svs")
    return STORAGE_COPIES / found[1] / PurePosixPath(*steps)


def refuse_shared_files(table: Path, files: Sequence[NamedFile]) -> None:
    """Refuse one slide file under several ids.

    Raises:
        BadInput: they are named.
    """
    uses = Counter(str(file) for _, file in files)
    twice = [f"{slide_id} ({file})" for slide_id, file in files if uses[str(file)] > 1]
    if twice:
        raise BadInput(f"{table}: column path: one file under several ids: {listed(twice)}; keep one of them")


def refuse_missing_files(table: Path, column: str, files: Iterable[NamedFile]) -> None:
    """Refuse files that are not there; of the column path a folder may be a slide (OME-Zarr).

    Raises:
        BadInput: they are named.
    """
    is_there = is_slide_path if column == "path" else is_regular_file
    missing = [f"{slide_id} ({file})" for slide_id, file in files if not is_there(file)]
    if missing:
        fetched = any(str(STORAGE_COPIES) in text for text in missing)
        in_storage = "slides in storage are fetched by snakemake alone (docs/cluster.md)"
        remedy = in_storage if fetched else "is the disk mounted? else take them out of the manifest"
        raise BadInput(
            f"{table}: column {column}: no such file for {len(missing)}: {listed(missing)}; {remedy}"
        )
