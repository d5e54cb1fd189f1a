"""Is it still the file that was opened? One that is replaced while it is read must not give mixed pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.slide_parts import parts_of

SlideIdentity: TypeAlias = Mapping[Path, FileIdentity]
"""Of every file that a slide consists of."""


def identity_of(path: Path) -> FileIdentity:
    """Return a file's identity; it costs one `stat`, about a microsecond.

    Raises:
        SlideProblem: unreadable, when the file is gone.
    """
    try:
        return FileIdentity.of(path.stat())
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error}); is it still there?") from None


def identities_of(path: Path) -> SlideIdentity:
    """Return the identity of every file of a slide; of most formats there is one.

    Raises:
        SlideProblem: unreadable, when a file is gone.
    """
    try:
        parts = parts_of(path)
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error}); is it still there?") from None
    return {file: identity_of(file) for file in (path, *parts)}


def check_all_unchanged(opened: SlideIdentity) -> None:
    """Refuse pixels of a slide any of whose files was replaced or written to since it was opened.

    Raises:
        SlideProblem: unreadable, when a file is gone or another one.
    """
    for file, identity in opened.items():
        check_unchanged(file, identity)


def check_unchanged(path: Path, opened: FileIdentity) -> None:
    """Refuse pixels of a file that was replaced or written to since it was opened.

    Raises:
        SlideProblem: unreadable, when the file is gone or another one.
    """
    if identity_of(path) != opened:
        raise unreadable("the file was replaced or changed while it was read; run this slide again")
