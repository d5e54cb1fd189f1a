"""Feature files that are plain arrays: CLAM's and slide2vec's tensors, torchmil's and slide2vec's NumPy."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.features.foreign_folders import ForeignSlide
from wsi_kd.features.foreign_hdf5 import read_array_hdf5
from wsi_kd.features.foreign_parts import (
    MAX_VALUES,
    ForeignParts,
    coord_rows,
    feature_rows,
    label_rows,
    plain_attributes,
)

LARGEST_BYTES = 4 * MAX_VALUES
Rows = TypeVar("Rows", bound=np.ndarray)


def read_clam_tensor(slide: ForeignSlide) -> ForeignParts:
    """Read CLAM's `.pt`: one tensor (tiles, features), by `weights_only`; it has no coordinates.

    Raises:
        BadInput: absent, damaged, not one tensor, or a pickle that would have to run code.
    """
    return ForeignParts(_tensor(slide.path), None, "level0_px", dict(slide.told))


def read_torchmil(slide: ForeignSlide) -> ForeignParts:
    """Read a torchmil bag: `features/`, and `coords/` and `inst_labels/` beside it where they are there.

    Raises:
        BadInput: absent or damaged.
    """
    root, name = slide.path.parent.parent, slide.path.name
    coords, labels = root / "coords" / name, root / "inst_labels" / name
    return ForeignParts(
        features=_array(slide.path, "features", rows=feature_rows),
        coords=_array(coords, "coords", rows=coord_rows) if coords.is_file() else None,
        unit="level0_px",
        attributes=dict(slide.told),
        tile_labels=_array(labels, "inst_labels", rows=label_rows) if labels.is_file() else None,
    )


def read_slide2vec(slide: ForeignSlide) -> ForeignParts:
    """Read slide2vec's tile embeddings with their sidecar, and hs2p's positions from `tiles/` beside them.

    Raises:
        BadInput: absent or damaged; positions for another number of tiles.
    """
    described = _meta(_beside(slide, ".meta.json"))
    if slide.path.name.endswith(".meta.json"):
        width = int(described.get("feature_dim") or 0)
        return ForeignParts(np.zeros((0, width), np.float32), np.zeros((0, 2)), "level0_px", described)
    features, order = _embeddings(slide.path)
    positions = slide.path.parent.parent / "tiles" / f"{slide.slide_id}.coordinates.npz"
    if not positions.is_file():
        return ForeignParts(features, None, "level0_px", described)
    meta = _meta(positions.with_name(f"{slide.slide_id}.coordinates.meta.json"))
    coords = _positions(positions)
    chosen = coords if order is None else coords[_indices(order, len(coords), slide.path)]
    return ForeignParts(features, chosen, "level0_px", {**meta, **described})


def _tensor(path: Path) -> FeatureArray:
    from wsi_kd.features.weights import load_pickle

    loaded = load_pickle(path)
    try:
        tensor = loaded.detach()
        return feature_rows((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path}: {error}; expected one tensor (tiles, features)") from None


def _array(path: Path, name: str, *, rows: Callable[[np.ndarray], Rows]) -> Rows:
    if path.suffix == ".h5":
        return read_array_hdf5(path, name, rows=rows)
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # a false shape fails here, unread
        return rows(np.array(mapped))
    except Exception as error:  # NumPy parses the header as Python text: TokenError, SyntaxError, ...
        raise _unreadable(path, error) from None


def _embeddings(path: Path) -> tuple[FeatureArray, np.ndarray | None]:
    if path.suffix == ".pt":
        return _tensor(path), None
    arrays = _npz(path, ("features", "tile_index"))
    if "features" not in arrays:
        raise BadInput(f"{path}: no array 'features'; expected slide2vec's tile embeddings")
    try:
        return feature_rows(arrays["features"]), arrays.get("tile_index")
    except ValueError as error:
        raise _unreadable(path, error) from None


def _positions(path: Path) -> np.ndarray:
    """Read `x` and `y`, or `coordinates` as hs2p named them before; level-0 px of the top-left corner."""
    arrays = _npz(path, ("x", "y", "coordinates"))
    try:
        if {"x", "y"} <= arrays.keys():
            return coord_rows(np.column_stack([arrays["x"], arrays["y"]]))
        return coord_rows(arrays["coordinates"])
    except (KeyError, ValueError) as error:
        raise _unreadable(path, error) from None


def _indices(order: np.ndarray, count: int, path: Path) -> np.ndarray:
    if order.ndim != 1 or order.dtype.kind not in "iu" or not ((order >= 0) & (order < count)).all():
        raise BadInput(
            f"{path}: tile_index points beyond the {count} positions of tiles/; run slide2vec anew"
        )
    return order


def _npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            present = [name for name in names if name in archive.files]
            sizes = [archive.zip.getinfo(f"{name}.npy").file_size for name in present]
            if sum(sizes) > LARGEST_BYTES:
                raise ValueError(f"{sum(sizes)} bytes: too large for one slide")
            return {name: archive[name] for name in present}
    except Exception as error:  # on damaged bytes: BadZipFile, zlib.error, EOFError, TokenError, ...
        raise _unreadable(path, error) from None


def _meta(path: Path) -> dict[str, Any]:
    """Read a sidecar's single values; hs2p's sections are joined into one level."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return plain_attributes(_flat(value)) if isinstance(value, Mapping) else {}


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for key, item in value.items():
        joined.update(_flat(item) if isinstance(item, Mapping) else {str(key): item})
    return joined


def _beside(slide: ForeignSlide, ending: str) -> Path:
    return slide.path.with_name(f"{slide.slide_id}{ending}")


def _unreadable(path: Path, error: Exception) -> BadInput:
    what = " ".join(str(error).split())[:200]
    return BadInput(f"{path}: not readable ({what}); make it anew with: the program that wrote it")
