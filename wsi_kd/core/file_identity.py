"""What tells a file from another one of its name, and from itself with other bytes."""

import os
from typing import NamedTuple


class FileIdentity(NamedTuple):
    """What changes when a file is replaced or written to."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileIdentity":
        """Return that of a file by its `stat`, of a path or of a descriptor."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
