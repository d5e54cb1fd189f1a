"""Feature files of other programs: TRIDENT and CLAM (HDF5), STAMP (HDF5), CLAM's .pt tensors.

| program | datasets | coordinates |
|---|---|---|
| TRIDENT | `features` (N, D) or (1, N, D), `coords` (N, 2) | level-0 px, top-left; tile size in attributes |
| CLAM | `features` (N, D), `coords` (N, 2) | level-0 px, top-left |
| CLAM `.pt` | one tensor (N, D) | none |
| STAMP | `feats` (N, D), `coords` (N, 2) | um, top-left: the slide's resolution is needed |

Their files carry no hash, so only their form and values can be checked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Coords, FeatureArray
from wsi_kd.features.store import FeatureFile, Hdf5Dataset, Hdf5File, open_hdf5, plain_dataset, require_finite

REMAKE = "the program that wrote it"
UNKNOWN_LABEL = -1
MAX_VALUES = 2**32  # 16 GiB of float32: more is a damaged shape, not a slide


def read_foreign_features(path: Path, *, slide_mpp: float | None = None) -> FeatureFile:
    """Read another program's feature file of one slide.

    Args:
        path: `<slide_id>.h5` or `<slide_id>.pt`.
        slide_mpp: um/px of level 0; needed for STAMP, whose coordinates are in um.

    Raises:
        BadInput: no such file, none of the four layouts, damaged, values that are not finite.
    """
    if path.suffix == ".pt":
        features = _read_tensor(path)
        coords, attributes = np.zeros((len(features), 2), np.int64), {}
        layout = "clam_pt"
    else:
        with open_hdf5(path, remake=REMAKE) as file:
            layout = "stamp" if "feats" in file else "trident_or_clam"
            features = _features(plain_dataset(file, "feats" if layout == "stamp" else "features"))
            attributes = {**_plain(file.attrs), **_plain(plain_dataset(file, "coords").attrs)}
            coords = _coords(file, path, slide_mpp=slide_mpp if layout == "stamp" else None, layout=layout)
    if len(features) != len(coords):
        raise BadInput(
            f"{path}: {len(features)} features but {len(coords)} coordinates; make it anew with {REMAKE}"
        )
    require_finite(features, where=path, remake=REMAKE)
    labels = np.full(len(features), UNKNOWN_LABEL, np.int8)
    header = _header(path, attributes, layout=layout, slide_mpp=slide_mpp, feature_dim=features.shape[1])
    return FeatureFile(path.stem, features, coords, labels, header)


def _features(dataset: Hdf5Dataset) -> FeatureArray:
    if dataset.size > MAX_VALUES or dataset.dtype.kind != "f":
        raise ValueError(f"features of shape {dataset.shape} and type {dataset.dtype}")
    return _rows(np.asarray(dataset[()]))


def _rows(values: np.ndarray) -> FeatureArray:
    """Bring (N, D) or (1, N, D) to (N, D) in native float16 or float32."""
    if values.ndim == 3 and len(values) == 1:  # noqa: PLR2004 - TRIDENT's batch axis
        values = values[0]
    if values.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"features of shape {values.shape}, expected (tiles, features)")
    return values.astype(np.float16 if values.dtype.itemsize == np.float16().itemsize else np.float32)


def _coords(file: Hdf5File, path: Path, *, slide_mpp: float | None, layout: str) -> Coords:
    values = np.asarray(plain_dataset(file, "coords")[()], np.float64)
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():  # noqa: PLR2004 - x and y
        raise ValueError(f"coordinates of shape {values.shape}, expected finite (tiles, 2)")
    if layout != "stamp":
        return np.rint(values).astype(np.int64)
    if slide_mpp is None:
        raise BadInput(f"{path}: STAMP's coordinates are in um; give the slide's um/px (column slide_mpp)")
    return np.rint(values / slide_mpp).astype(np.int64)


def _header(
    path: Path, attributes: Mapping[str, Any], *, layout: str, slide_mpp: float | None, feature_dim: int
) -> dict[str, Any]:
    """Translate what the attributes tell into this project's words; the rest stays under `foreign`."""
    tile_level0_px = float(attributes.get("patch_size_level0", 0.0))
    tile_px = int(attributes.get("patch_size", attributes.get("tile_size_px", 0)))
    tile_um = float(attributes.get("tile_size_um", 0.0))
    if tile_um and slide_mpp:
        tile_level0_px = tile_um / slide_mpp
    return {
        "slide_id": path.stem,
        "status": str(SlideStatus.OK),
        "reason": "",
        "layout": layout,
        "tile_px": tile_px,
        "tile_mpp": tile_um / tile_px if tile_um and tile_px else 0.0,
        "tile_level0_px": tile_level0_px,
        "overlap_px": int(attributes.get("overlap", 0)),
        "slide_mpp": slide_mpp or 0.0,
        "encoder": str(attributes.get("extractor", "")),
        "feature_dim": feature_dim,
        "foreign": dict(attributes),
    }


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the attributes that are single numbers or texts, as JSON values."""
    values = {
        key: value.item() if isinstance(value, np.generic) else value for key, value in attributes.items()
    }
    return {key: value for key, value in values.items() if isinstance(value, str | int | float)}


def _read_tensor(path: Path) -> FeatureArray:
    from wsi_kd.features.weights import load_pickle

    loaded = load_pickle(path)
    try:
        return _rows(loaded.float().numpy() if str(loaded.dtype) == "torch.bfloat16" else loaded.numpy())
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: {error}; expected one tensor (tiles, features)") from None
