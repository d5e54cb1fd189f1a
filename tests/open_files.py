"""What this process holds open, by what it is: other tests' threads may close theirs at any moment."""

from pathlib import Path


def open_files() -> set[tuple[str, str]]:
    """Number and target of every descriptor; what is gone from it later is no concern of a test for leaks."""
    found = set()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            found.add((descriptor.name, str(descriptor.readlink())))
        except FileNotFoundError:
            continue  # that of the listing itself
    return found
