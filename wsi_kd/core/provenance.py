"""Where an artifact came from: schema version, settings, package versions, git state."""

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsi_kd import __version__
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash

SCHEMA_VERSION = 1
"""Of every kind of artifact that KIND_VERSIONS does not name."""

KIND_VERSIONS = {
    "mask": 3,
    "features": 2,
    "status": 2,
    "model": 4,
    "predictions": 3,
    "tile_scores": 3,
    "pooled_predictions": 3,
    "metrics": 4,
    "prediction": 3,
}
"""Kinds whose layout, or way of making, has changed; one more a change: only what changed is made anew."""

RECORDED_PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "h5py",
    "openslide-python",
    "openslide-bin",
    "simplejpeg",
    "onnxruntime",
)
RESEARCH_ONLY = "Research only: not a medical device, not for diagnosis."


def stamp(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an artifact of `kind` made with `settings` (JSON values); equal runs give equal stamps."""
    return {
        "schema_version": schema_version(kind),
        "kind": kind,
        "settings": dict(settings),
        "settings_hash": content_hash(dict(settings)),
        "versions": package_versions(),
    }


def check_schema(header: Mapping[str, Any], kind: str, *, where: Path, remake: str) -> None:
    """Refuse an artifact of another kind or of a schema this version does not know.

    Raises:
        BadInput: with the command that makes the artifact anew.
    """
    if header.get("kind") != kind:
        raise BadInput(f"{where}: holds {header.get('kind')!r}, expected {kind!r}; make it with: {remake}")
    if header.get("schema_version") != schema_version(kind):
        raise BadInput(
            f"{where}: schema version {header.get('schema_version')}, "
            f"this wsi-kd reads {schema_version(kind)}; "
            f"make it anew with: {remake}"
        )


def schema_version(kind: str) -> int:
    """Return the version of the layout that this package writes and reads for a kind of artifact."""
    return KIND_VERSIONS.get(kind, SCHEMA_VERSION)


def package_versions() -> dict[str, str]:
    """Return the versions of Python, wsi_kd and the packages that shape results, without importing them."""
    found = {"python": platform.python_version(), "wsi_kd": __version__}
    return found | {name: _version_of(name) for name in RECORDED_PACKAGES}


def git_state() -> str:
    """Return the commit of the package's checkout (with `+changes` when dirty), or `not a git checkout`."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
    return f"{commit}+changes" if changed else commit


@cache
def _version_of(package: str) -> str:
    """Look a version up once: that parses a file, and every artifact is stamped."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
