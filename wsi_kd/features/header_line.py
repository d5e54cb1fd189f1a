"""The first line of a tile or feature file: its header as JSON, with a hash of itself and one of the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash

MAX_HEADER_BYTES: Final = 16 << 20


class HeaderLine(NamedTuple):
    """What the first line says."""

    header: dict[str, Any]
    body_sha256: str
    """Of all that follows the user block."""


def parse_header(line: bytes, path: Path, remake: str) -> HeaderLine:
    """Read and check a file's first line; `remake` is the command that makes the file.

    Raises:
        BadInput: it is damaged, or none of ours.
    """
    if not line.startswith(b"{") or not line.endswith(b"\n"):
        raise BadInput(f"{path}: not written by wsi-kd, or its beginning is damaged; make it with: {remake}")
    header = json.loads(line)
    expected = header.pop("content_sha256")
    if content_hash(header) != expected:
        raise BadInput(f"{path}: header changed or damaged since it was written; make it anew with: {remake}")
    return HeaderLine(header, header.pop("body_sha256"))


def header_line(header: Mapping[str, Any], body_sha256: str) -> bytes:
    """Return the line, its end included."""
    full = {**header, "body_sha256": body_sha256}
    text = json.dumps({**full, "content_sha256": content_hash(full)}, allow_nan=False)
    return f"{text}\n".encode("ascii")


def user_block_bytes(line: bytes) -> int:
    """Return the size of the user block that holds `line`: HDF5 takes powers of two from 512."""
    return max(512, 1 << (len(line) - 1).bit_length())
