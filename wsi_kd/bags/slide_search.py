"""What a user may name for inference: files, folders (with all below them), patterns; down to slides."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsi_kd.bags.slide_files import (
    FOLDER_EXTENSION,
    is_folder,
    is_slide_folder,
    is_slide_name,
    is_slide_path,
    slide_files_in,
    slides_among,
)
from wsi_kd.core.errors import BadInput

WILDCARDS = "*?["
ANSWER = "prediction.json"
"""A folder that holds one was written by `infer`: its pictures are no slides."""


def given_paths(paths: Sequence[Path], *, recursive: bool = False) -> list[Path]:
    """Return files, tables and folders of what was named, patterns and (where asked for) subfolders resolved.

    A pattern (`*`, `?`, `[...]`, `**` for any folders) that names no file itself stands for the slides it
    matches, so a quoted one serves where a shell cannot pass thousands of names.

    Raises:
        BadInput: a pattern without slides, or (recursive) a folder without slides below it.
    """
    found: list[Path] = []
    for path in paths:
        if is_pattern(path):
            found += _matches(path)
        elif recursive and is_folder(path) and not is_slide_folder(path):
            found += slides_below(path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def is_pattern(path: Path) -> bool:
    """Tell whether a name is to be matched; a file that has such a name is itself."""
    return _has_wildcard(str(path)) and not os.path.lexists(path)


def slides_below(folder: Path) -> list[Path]:
    """List the slides of a folder and of all folders below it, by the rules of `slides_among` for the whole.

    Hidden folders and what `infer` wrote are passed over.

    Raises:
        BadInput: not readable, or without slides.
    """
    files = [path for part in _folders(folder) for path in slide_files_in(part)]
    if not files:
        raise BadInput(f"{folder}: no slide in this folder or below it")
    return slides_among(files)


def _has_wildcard(text: str) -> bool:
    return any(character in text for character in WILDCARDS)


def _folders(folder: Path) -> Iterator[Path]:
    """Walk a tree in order, not into slides that are folders."""
    for current, below, names in os.walk(folder):
        below[:] = sorted(
            name for name in below if not name.startswith(".") and not name.lower().endswith(FOLDER_EXTENSION)
        )
        if ANSWER not in names:
            yield Path(current)


def _matches(pattern: Path) -> list[Path]:
    plain = [part for part in itertools.takewhile(lambda part: not _has_wildcard(part), pattern.parts)]
    base = Path(*plain)
    rest = pattern.parts[len(plain) :]
    matched = base.glob(str(Path(*rest))) if is_folder(base) else ()
    found = sorted(path for path in matched if is_slide_name(path) and is_slide_path(path))
    if not found:
        raise BadInput(f"{pattern}: no slide has a name like this; look at its folder and at the quotes")
    return slides_among(found)
