"""Features in the layouts of TRIDENT, CLAM, torchmil and STAMP, for their readers.

| layout | what is written | what is lost |
|---|---|---|
| trident | our own files in TRIDENT's folders, and `patches/<slide_id>_patches.h5` | nothing |
| clam | `h5_files/` (float32, int32), `patches/` with the tile's level-0 size | um/px, labels of tiles |
| clam_pt | `pt_files/`: one tensor of float32 | all but the features |
| torchmil | `features/`, `coords/`, `inst_labels/`, with a manifest `labels/` (.npy) | um/px, tile sizes |
| stamp | `{encoder}-{hash}/` with `feats` (float16) and um | labels of tiles, digits beyond float16 |
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.files import publish
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.foreign_header import GIVEN_ENCODER, UNKNOWN_ENCODER
from wsi_kd.features.store import OBJECTIVE_MPP, FeatureFile, Hdf5File, open_hdf5, write_features

Writer = Callable[[Path, FeatureFile, int | None], list[Path]]
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


def write_foreign(folder: Path, features: FeatureFile, *, layout: str, label: int | None) -> list[Path]:
    """Write one slide in another program's layout below `folder`; return the files.

    Args:
        folder: top of the layout (TRIDENT's job_dir, CLAM's feature folder, ...).
        features: a slide with status ok.
        layout: a key of `EXPORTS`.
        label: the slide's class as a number, for torchmil; None: no label is written.

    Raises:
        SlideProblem: the layout needs a resolution, tile size or position that the features do not have.
    """
    return EXPORTS[layout](folder, features, label)


def encoder_name(header: Mapping[str, Any]) -> str:
    """Return the encoder's name as a folder can carry it, `given:` left out.

    >>> encoder_name({"encoder": "given:uni_v1"}), encoder_name({"encoder": "hf-hub:MahmoodLab/UNI2-h"})
    ('uni_v1', 'hf-hub_MahmoodLab_UNI2-h')
    """
    name = str(header.get("encoder", "")).removeprefix(GIVEN_ENCODER) or UNKNOWN_ENCODER
    return _NOT_IN_NAMES.sub("_", name).strip(".") or UNKNOWN_ENCODER


def _trident(folder: Path, features: FeatureFile, _label: int | None) -> list[Path]:
    """Our files already are TRIDENT's: a hash more, and contiguous instead of one row a chunk."""
    header = features.header
    _need(header, "tile_mpp", "tile_px", why="TRIDENT names its folders by magnification and tile size")
    magnification = round(OBJECTIVE_MPP / float(header["tile_mpp"]), 2)
    tiles = folder / f"{magnification:g}x_{header['tile_px']}px_{header['overlap_px']}px_overlap"
    path = tiles / f"features_{encoder_name(header)}" / f"{features.slide_id}.h5"
    write_features(path, features)
    with open_hdf5(path, remake="wsi-kd features convert") as file:
        attributes = dict(file["coords"].attrs)
    positions = tiles / "patches" / f"{features.slide_id}_patches.h5"
    _write_hdf5(positions, {"coords": features.coords}, on_coords=attributes)
    return [path, positions]


def _clam(folder: Path, features: FeatureFile, _label: int | None) -> list[Path]:
    """Write the arrays that CLAM's dataset reads, and tiles as level-0 squares, which need no pyramid."""
    path = folder / "h5_files" / f"{features.slide_id}.h5"
    arrays = {"features": features.features.astype(np.float32), "coords": features.coords.astype(np.int32)}
    _write_hdf5(path, arrays)
    edge = round(float(features.header["tile_level0_px"]))
    if not edge:
        return [path]
    positions = folder / "patches" / path.name
    attributes: dict[str, Any] = {
        "patch_size": edge,
        "patch_level": 0,
        "downsample": np.ones(2),
        "name": features.slide_id,
    }
    _write_hdf5(positions, {"coords": features.coords}, on_coords=attributes)
    return [path, positions]


def _clam_pt(folder: Path, features: FeatureFile, _label: int | None) -> list[Path]:
    import torch

    path = folder / "pt_files" / f"{features.slide_id}.pt"
    with publish(path) as temporary:
        torch.save(torch.from_numpy(features.features.astype(np.float32)), temporary)
    return [path]


def _torchmil(folder: Path, features: FeatureFile, label: int | None) -> list[Path]:
    arrays: dict[str, np.ndarray] = {
        "features": features.features.astype(np.float32),
        "coords": features.coords,
    }
    if label is not None:
        arrays["labels"] = np.array([label], np.int64)
    if (features.tile_labels >= 0).all():
        arrays["inst_labels"] = features.tile_labels.astype(np.int64)
    paths = []
    for name, values in arrays.items():
        paths.append(folder / name / f"{features.slide_id}.npy")
        with publish(paths[-1]) as temporary, temporary.open("wb") as handle:
            np.save(handle, values, allow_pickle=False)
    return paths


def _stamp(folder: Path, features: FeatureFile, _label: int | None) -> list[Path]:
    header = features.header
    _need(header, "slide_mpp", "tile_level0_px", why="STAMP's positions are in um")
    largest = float(np.abs(features.features).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise SlideProblem(
            SlideStatus.UNREADABLE, f"features up to {largest:.3g}: STAMP's float16 cannot hold them"
        )
    mpp = float(header["slide_mpp"])
    tile_um = round(float(header["tile_level0_px"]) * mpp, 6)
    identity = {key: header.get(key) for key in ("encoder", "encoder_settings", "weights_hash", "tile_px")}
    code = hashlib.sha256(json.dumps({**identity, "tile_um": round(tile_um)}, sort_keys=True).encode())
    path = folder / f"{encoder_name(header)}-{code.hexdigest()[:8]}" / f"{features.slide_id}.h5"
    arrays: dict[str, np.ndarray] = {
        "feats": features.features.astype(np.float16),
        "coords": (features.coords * mpp).astype(np.float32),
    }
    attributes = {
        "extractor": encoder_name(header),
        "unit": "um",
        "tile_size_um": tile_um,
        "tile_size_px": int(header["tile_px"]),
        "code_hash": code.hexdigest(),
        "feat_type": "tile",
    }
    _write_hdf5(path, arrays, on_root=attributes)
    return [path]


EXPORTS: Final[dict[str, Writer]] = {
    "trident": _trident,
    "clam": _clam,
    "clam_pt": _clam_pt,
    "torchmil": _torchmil,
    "stamp": _stamp,
}


def _need(header: Mapping[str, Any], *keys: str, why: str) -> None:
    missing = [key for key in keys if not header.get(key)]
    if missing:
        raise SlideProblem(
            SlideStatus.MISSING_MPP,
            f"these features do not tell {', '.join(missing)}, and {why}; convert from slides' own features, "
            "or name the slide's um/px (column slide_mpp of a manifest)",
        )


def _write_hdf5(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    on_root: Mapping[str, Any] | None = None,
    on_coords: Mapping[str, Any] | None = None,
) -> None:
    """Write contiguous datasets with attributes, through memory: a full disk must not reach the library."""
    with publish(path) as temporary:
        content = io.BytesIO()
        with Hdf5File(content, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=np.ascontiguousarray(values))
            file.attrs.update(dict(on_root or {}))
            file["coords"].attrs.update(dict(on_coords or {}))
        temporary.write_bytes(content.getbuffer())
