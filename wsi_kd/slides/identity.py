"""Is it still the file that was opened? One that is replaced while it is read must not give mixed pixels."""

from pathlib import Path

from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.slides.protocol import unreadable


def identity_of(path: Path) -> FileIdentity:
    """Return a file's identity; it costs one `stat`, about a microsecond.

    Raises:
        SlideProblem: unreadable, when the file is gone.
    """
    try:
        return FileIdentity.of(path.stat())
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error}); is it still there?") from None


def check_unchanged(path: Path, opened: FileIdentity) -> None:
    """Refuse pixels of a file that was replaced or written to since it was opened.

    Raises:
        SlideProblem: unreadable, when the file is gone or another one.
    """
    if identity_of(path) != opened:
        raise unreadable("the file was replaced or changed while it was read; run this slide again")
