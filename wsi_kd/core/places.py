"""Settings as files record them: each path cut to its last part, for folders may be named after people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DISTILLED: Final = "distilled:"
"""How the name of an encoder begins that is a folder of one's own."""
PATH_KEYS: Final = frozenset(
    {
        "edited_dir",
        "features_dir",
        "folder",
        "given",
        "manifest",
        "model",
        "network",
        "path",
        "pixels_dir",
        "results_dir",
        "slides_dir",
        "splits",
        "target",
        "weights",
        "weights_dir",
    }
)
"""Settings that say where something lies; hashes say what it is."""


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections with each path cut to its last part, however deep it stands.

    What stands under a key that nobody knows (an argument for a function of the user's) is taken for a path
    where it is absolute.

    >>> without_paths({"embed": {"weights": "/home/doe/uni.pt", "batch_size": 64}})
    {'embed': {'weights': 'uni.pt', 'batch_size': 64}}
    >>> without_paths({"teachers": [{"network": {"arguments": {"start": "/home/doe/a.pt"}}}]})
    {'teachers': [{'network': {'arguments': {'start': 'a.pt'}}}]}
    """
    return {key: _without_path(key, value) for key, value in settings.items()}


def without_folder(encoder: str) -> str:
    """Return an encoder's name; of a distilled one, which is named by its folder, the last part of that.

    >>> without_folder("distilled:/home/doe/small"), without_folder("uni")
    ('distilled:small', 'uni')
    """
    if not encoder.startswith(DISTILLED):
        return encoder
    return f"{DISTILLED}{Path(encoder.removeprefix(DISTILLED)).name}"


def _without_path(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_paths(value)
    if isinstance(value, list | tuple):
        return [_without_path(key, each) for each in value]
    if not isinstance(value, str | Path):
        return value
    if key == "encoder":
        return without_folder(str(value))
    return Path(value).name if key in PATH_KEYS or Path(value).is_absolute() else value
