"""Feature files of TRIDENT, CLAM and STAMP: HDF5 without a hash, so form and values are what is checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.features.chunk_rows import read_dataset
from wsi_kd.features.crash_probe import refuse_what_crashes
from wsi_kd.features.foreign_folders import ForeignSlide
from wsi_kd.features.foreign_parts import (
    MAX_VALUES,
    ForeignParts,
    coord_rows,
    feature_rows,
    plain_attributes,
)
from wsi_kd.features.store import Hdf5Dataset, Hdf5File, open_hdf5, plain_dataset

REMAKE = "the program that wrote it"
STAMP_KEY = "feats"
Rows = TypeVar("Rows", bound=np.ndarray)


def read_hdf5(slide: ForeignSlide) -> ForeignParts:
    """Read a file of TRIDENT, CLAM or STAMP, whichever it is.

    Raises:
        BadInput: absent, damaged, or in none of their layouts.
    """
    refuse_what_crashes(slide.path)
    with open_hdf5(slide.path, remake=REMAKE) as file:
        if STAMP_KEY in file:
            return _stamp(file, slide)
        parts = _level0(file, slide.path)
    beside = _clam_tiles(slide.path) if slide.layout in {"clam", "hdf5"} else {}
    return parts._replace(attributes={**slide.told, **beside, **parts.attributes})


def read_array_hdf5(path: Path, name: str, *, rows: Callable[[np.ndarray], Rows]) -> Rows:
    """Read one array of a torchmil folder that keeps HDF5 files: the dataset is named like its folder.

    Raises:
        BadInput: absent or damaged.
    """
    refuse_what_crashes(path)
    with open_hdf5(path, remake=REMAKE) as file:
        return rows(_values(plain_dataset(file, name), path))


def _level0(file: Hdf5File, path: Path) -> ForeignParts:
    features = plain_dataset(file, "features")
    coords = plain_dataset(file, "coords")
    attributes = {
        **plain_attributes(file.attrs),
        **plain_attributes(features.attrs),
        **plain_attributes(coords.attrs),
    }
    return ForeignParts(
        feature_rows(_values(features, path)), coord_rows(_values(coords, path)), "level0_px", attributes
    )


def _stamp(file: Hdf5File, slide: ForeignSlide) -> ForeignParts:
    """STAMP tells um since 2.0, as `tile_size` with `unit` and since 2.1 as `tile_size_um`."""
    attributes = plain_attributes(file.attrs)
    if attributes.get("unit") == "um" and "tile_size" in attributes:
        attributes.setdefault("tile_size_um", float(attributes["tile_size"]))
    if not attributes.get("tile_size_um"):
        raise BadInput(
            f"{slide.path}: no tile_size_um: older than STAMP 2, whose positions have no unit; "
            "make it anew with: stamp preprocess"
        )
    if str(attributes.get("feat_type", "tile")) != "tile":
        raise BadInput(
            f"{slide.path}: one vector a {attributes['feat_type']}; expected STAMP's features of tiles"
        )
    features = feature_rows(_values(plain_dataset(file, STAMP_KEY), slide.path))
    return ForeignParts(
        features, coord_rows(_values(plain_dataset(file, "coords"), slide.path)), "um", attributes
    )


def _clam_tiles(path: Path) -> dict[str, Any]:
    """Read tile sizes from CLAM's file of positions, beside the folder of features, where it is there."""
    positions = path.parent.parent / "patches" / path.name
    if not positions.is_file():
        return {}
    refuse_what_crashes(positions)
    with open_hdf5(positions, remake=REMAKE) as file:
        coords = plain_dataset(file, "coords")
        found = plain_attributes(coords.attrs)
        downsample = np.ravel(coords.attrs.get("downsample", 1.0))
    if "patch_size" in found and downsample.size:
        found.setdefault("patch_size_level0", float(found["patch_size"]) * float(downsample[0]))
    return found


def _values(dataset: Hdf5Dataset, path: Path) -> np.ndarray:
    if dataset.size > MAX_VALUES:
        raise ValueError(f"'{dataset.name}' of shape {dataset.shape}: too large for one slide")
    return read_dataset(dataset, path)
