"""Settings as files record them: each path cut to its last part, for folders may be named after people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DISTILLED: Final = "distilled:"
"""How the name of an encoder begins that is a folder of one's own."""
PATH_KEYS: Final = frozenset(
    {
        "network",
        "weights",
        "weights_dir",
        "edited_dir",
        "folder",
        "given",
        "manifest",
        "slides_dir",
        "results_dir",
        "target",
    }
)
"""Settings that say where something lies; hashes say what it is."""


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections with each path cut to its last part.

    >>> without_paths({"embed": {"weights": "/home/doe/uni.pt", "batch_size": 64}})
    {'embed': {'weights': 'uni.pt', 'batch_size': 64}}
    """
    return {
        section: {key: _without_path(key, value) for key, value in values.items()}
        for section, values in settings.items()
    }


def without_folder(encoder: str) -> str:
    """Return an encoder's name; of a distilled one, which is named by its folder, the last part of that.

    >>> without_folder("distilled:/home/doe/small"), without_folder("uni")
    ('distilled:small', 'uni')
    """
    if not encoder.startswith(DISTILLED):
        return encoder
    return f"{DISTILLED}{Path(encoder.removeprefix(DISTILLED)).name}"


def _without_path(key: str, value: Any) -> Any:
    if key == "encoder" and isinstance(value, str):
        return without_folder(value)
    return Path(value).name if key in PATH_KEYS and value is not None else value
