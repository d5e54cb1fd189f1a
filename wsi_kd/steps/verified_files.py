"""One file of a run by itself: does it carry the hash that it was written with, and does it belong there?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import SIDECAR_SUFFIX, check_table, file_hash, read_json, sidecar
from wsi_kd.core.leftovers import HIDDEN
from wsi_kd.core.run_lock import LOCK_NAME
from wsi_kd.features.store import read_features, read_tiles
from wsi_kd.steps.status import REMAKE
from wsi_kd.tissue.polygons import read_tissue

UNKNOWN, UNHASHED, LEFTOVER = "unknown", "without a hash", "half-written"
WITHOUT_HASH: Final = {
    "logs": {".log"},
    "benchmarks": {".tsv"},
    "qc": {".html", ".jpg", ".svg"},
    "report": {".html"},
    "heatmaps": {".png", ".tif", ".tiff", ".geojson"},
    "models": {".svg"},
}
"""Endings of a folder's files that carry no hash: pages and pictures are drawn from files that do."""
_MARKERS: Final = {"checked", LOCK_NAME}
"""Files of the run's folder itself that hold nothing."""


class CheckedFile(NamedTuple):
    """What one file is, and what is wrong with it (empty: nothing)."""

    kind: str
    fault: str = ""


def check_file(path: Path, root: Path) -> CheckedFile:
    """Say what a file of the run `root` is and check the hash that it carries."""
    parts = path.relative_to(root).parts
    if any(part.startswith(HIDDEN) for part in parts):
        return CheckedFile(LEFTOVER, "left by a writer that was killed; remove it, or write its file anew")
    kind = UNKNOWN if path.is_symlink() else _kind(path, parts)
    if kind == UNKNOWN:
        return CheckedFile(UNKNOWN, "no file of a run; move it elsewhere")
    check = _CHECKS.get(kind)
    try:
        if check is not None:
            check(path)
    except BadInput as error:
        return CheckedFile(kind, str(error).removeprefix(f"{path}: "))
    return CheckedFile(kind)


def _kind(path: Path, parts: tuple[str, ...]) -> str:
    name, folder = path.name, parts[0] if len(parts) > 1 else ""
    if name.endswith(SIDECAR_SUFFIX):
        return "sidecars"
    if path.suffix == ".csv":
        return "tables"
    if path.suffix in WITHOUT_HASH.get(folder, ()) or (not folder and name in _MARKERS):
        return UNHASHED
    if path.suffix == ".json":
        return "json"
    return _KINDS.get((folder, path.suffix), UNKNOWN)


def _sidecar(path: Path) -> None:
    table = path.with_name(path.name.removesuffix(SIDECAR_SUFFIX))
    if not table.is_file():
        raise BadInput(f"{path}: {table.name} is not beside it; make both anew with: {REMAKE}")


def _weights(path: Path) -> None:
    header = read_json(path.with_suffix(".json"), remake="wsi-kd train")
    if file_hash(path) != header.get("weights_sha256"):
        raise BadInput(f"{path}: not the weights of {path.stem}.json (sha256 differs); train anew")


def _state(path: Path) -> None:
    raise BadInput(f"{path}: a training that has not ended; run it to its end with: wsi-kd train")


def _table(path: Path) -> None:
    if not sidecar(path).is_file():
        raise BadInput(f"{path}: no {sidecar(path).name} beside it: nothing says that it is whole")
    check_table(path, remake=REMAKE)


_KINDS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("masks", ".geojson"): "masks",
        ("tiles", ".h5"): "tiles",
        ("features", ".h5"): "features",
        ("models", ".safetensors"): "weights",
    }
)
_CHECKS: Final[Mapping[str, Callable[[Path], Any]]] = MappingProxyType(
    {
        "masks": read_tissue,
        "tiles": read_tiles,
        "features": read_features,
        "weights": lambda path: (_state if path.stem == "state" else _weights)(path),
        "tables": _table,
        "json": lambda path: read_json(path, remake=REMAKE),
        "sidecars": _sidecar,
    }
)
