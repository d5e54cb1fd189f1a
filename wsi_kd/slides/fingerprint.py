"""Which file was read: a fingerprint that costs a few MiB of reading, whatever the slide's size."""

import hashlib
import os
from pathlib import Path

from wsi_kd.slides.slide_parts import MIRAX, MIRAX_INDEX, parts_of

END_BYTES = 2**20
BLOCK_BYTES = 2**16
BLOCKS = 64
METADATA_NAMES = {"zarr.json", ".zattrs", ".zgroup", ".zarray"}


def slide_fingerprint(path: Path) -> str:
    """Return the sha256 (hex) over a file's size, first and last MiB and 64 evenly spaced blocks of 64 KiB.

    It identifies a file and catches another version, a truncated copy and most edits; a change of a few bytes
    between the blocks goes unseen. Of an MRXS slide, whose pixels lie in a folder beside it, the folder's
    file names and sizes and its index `Slidedat.ini` count as well; of a slide that is a folder (OME-Zarr)
    the name and size of every file in it, and the metadata as a whole. Of VMS, VMU and DICOM all files of
    the slide count alike, whatever they are called and whichever of a series is given.

    Raises:
        OSError: when the file cannot be read.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        _add_folder(digest, path)
        return digest.hexdigest()
    if path.suffix.lower() == MIRAX:
        _add_mirax(digest, path)
        return digest.hexdigest()
    parts = parts_of(path)
    if not parts:
        _add_file(digest, path)
        return digest.hexdigest()
    for content in sorted(_file_digest(file) for file in (path, *parts)):
        digest.update(content)
    return digest.hexdigest()


def _add_mirax(digest: "hashlib._Hash", path: Path) -> None:
    _add_file(digest, path)
    folder = path.with_suffix("")
    if folder.is_dir():
        for part in sorted(folder.iterdir()):
            digest.update(f"{part.name}:{part.stat().st_size};".encode())
        index = folder / MIRAX_INDEX
        if index.is_file():
            _add_file(digest, index)


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    _add_file(digest, path)
    return digest.digest()


def _add_folder(digest: "hashlib._Hash", folder: Path) -> None:
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            file = Path(root, name)
            digest.update(f"{file.relative_to(folder)}:{file.stat().st_size};".encode())
            if name in METADATA_NAMES:
                digest.update(file.read_bytes())


def _add_file(digest: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{size};".encode())
    with path.open("rb") as handle:
        if size <= 2 * END_BYTES + BLOCKS * BLOCK_BYTES:
            digest.update(handle.read())
            return
        digest.update(handle.read(END_BYTES))
        between = size - 2 * END_BYTES - BLOCK_BYTES
        for block in range(BLOCKS):
            handle.seek(END_BYTES + between * block // (BLOCKS - 1))
            digest.update(handle.read(BLOCK_BYTES))
        handle.seek(size - END_BYTES)
        digest.update(handle.read(END_BYTES))
