"""Tile and feature files: HDF5 that TRIDENT's and CLAM's readers also read, checked before HDF5 sees a byte.

The file's first line, in HDF5's user block, is the header as JSON with its own hash (`content_sha256`) and
the sha256 of all that follows (`body_sha256`): `read_header` reads that line alone, and damaged bytes never
reach the HDF5 library, which can hang or return other numbers on them. Behind it: contiguous datasets
(`coords`, `features`, the measures of `features.quality`, ...), TRIDENT's attributes on `coords`, the main
keys as root attributes, the header again as text in `header`.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np
from jaxtyping import Float32

from wsi_kd import __version__
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish
from wsi_kd.core.finite import all_finite
from wsi_kd.core.provenance import check_schema, schema_version
from wsi_kd.core.shapes import Coords, FeatureArray, TileLabels
from wsi_kd.features.header_line import MAX_HEADER_BYTES, header_line, parse_header, user_block_bytes
from wsi_kd.features.quality_columns import TileQuality, unknown_quality

Hdf5File: TypeAlias = h5py.File
Hdf5Dataset: TypeAlias = h5py.Dataset

HDF5_VERSION = str(h5py.version.hdf5_version)
"""Of the library that is loaded."""
REMAKE = {"tiles": "wsi-kd tile", "features": "wsi-kd embed"}
ROOT_KEYS = (
    "schema_version",
    "kind",
    "slide_id",
    "status",
    "slide_mpp",
    "mpp_source",
    "tile_px",
    "tile_mpp",
    "encoder",
)
TILE_COLUMNS = {"coords": "<i8", "tissue_fraction": "<f4", "tile_labels": "|i1"}
FEATURE_COLUMNS = {
    "features": "<f2 <f4 |u1",
    "coords": "<i8",
    "tile_labels": "|i1",
    **dict.fromkeys(TileQuality._fields, "<f4"),
}
ALIGNED_BYTES, LARGE_BYTES = 64, 4096  # where arrays begin, and from which size on
OBJECTIVE_MPP = 10.0  # a 10x objective is taken as 1 um/px: TRIDENT's own convention


class TileFile(NamedTuple):
    """Tile positions of one slide, with the share of tissue and the truth of each tile."""

    slide_id: str
    coords: Coords
    tissue_fraction: Float32[np.ndarray, "tiles"]
    tile_labels: TileLabels
    header: dict[str, Any]


class FeatureFile(NamedTuple):
    """Features of one slide; a slide that failed has none and its status and reason in the header."""

    slide_id: str
    features: FeatureArray
    coords: Coords
    tile_labels: TileLabels
    header: dict[str, Any]
    quality: TileQuality | None = None
    """Measures of each tile. None, of tiles that nobody measured, is stored as `UNKNOWN` (-1), never as NaN;
    what `read_features` returns always has them."""


def write_tiles(path: Path, tiles: TileFile) -> None:
    """Write a tile file through `publish`."""
    arrays = {
        "coords": tiles.coords,
        "tissue_fraction": tiles.tissue_fraction,
        "tile_labels": tiles.tile_labels,
    }
    _write(path, arrays, {**tiles.header, "kind": "tiles", "slide_id": tiles.slide_id})


def write_features(path: Path, slide: FeatureFile) -> None:
    """Write a feature file through `publish`: `features` float16, float32 or (pixels) uint8 as given."""
    quality = slide.quality or unknown_quality(len(slide.coords))
    arrays = {
        "features": slide.features,
        "coords": slide.coords,
        "tile_labels": slide.tile_labels,
        **quality._asdict(),
    }
    _write(path, arrays, {**slide.header, "kind": "features", "slide_id": slide.slide_id})


def read_tiles(path: Path) -> TileFile:
    """Read a tile file and check every byte of it.

    Raises:
        BadInput: absent, damaged, changed, of another kind or schema; the remedy is `wsi-kd tile`.
    """
    header, arrays = _read(path, "tiles", TILE_COLUMNS)
    return TileFile(slide_id=header["slide_id"], **arrays, header=header)


def read_features(path: Path) -> FeatureFile:
    """Read a feature file and check every byte of it, and that each feature is finite.

    Raises:
        BadInput: absent, damaged, changed, of another kind or schema; the remedy is `wsi-kd embed`.
    """
    header, arrays = _read(path, "features", FEATURE_COLUMNS)
    require_finite(arrays["features"], where=path, remake=REMAKE["features"])
    quality = TileQuality(**{name: arrays.pop(name) for name in TileQuality._fields})
    return FeatureFile(slide_id=header["slide_id"], **arrays, header=header, quality=quality)


def read_header(path: Path) -> dict[str, Any]:
    """Read the checked header of a tile or feature file; no array is touched.

    Raises:
        BadInput: the file is absent, not one of wsi-kd's, or its header is damaged.
    """
    remake = " or ".join(REMAKE.values())
    with reading_file(path, remake=remake), path.open("rb") as handle:
        header, _ = parse_header(handle.readline(MAX_HEADER_BYTES), path, remake)
    return header


def require_finite(features: FeatureArray, *, where: Path, remake: str) -> None:
    """Refuse features with NaN or infinity, naming the first such tile; pixels hold neither."""
    refuse_rows(rows_not_finite(features), where=where, remake=remake)


def rows_not_finite(features: FeatureArray) -> list[int]:
    """Return the rows that hold NaN or infinity."""
    return [] if all_finite(features) else np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist()


def refuse_rows(bad_rows: Sequence[int], *, where: Path, remake: str) -> None:
    """Refuse a file whose features are not finite in these rows, where there are any."""
    if bad_rows:
        raise BadInput(
            f"{where}: features of {len(bad_rows)} tile(s) are not finite (first: tile {bad_rows[0]}); "
            f"make it anew with: {remake}"
        )


def array_hash(array: np.ndarray) -> str:
    """Return the sha256 over an array's type, shape and values as hex."""
    plain = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{plain.dtype.str} {plain.shape}\n".encode())
    digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def open_hdf5(path: Path, *, remake: str) -> Iterator[h5py.File]:
    """Open another program's HDF5 file, without a lock; whatever goes wrong inside is one `BadInput`."""
    with reading_file(path, remake=remake), h5py.File(path, "r", locking=False) as file:
        yield file


def plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return the dataset `name` whose numbers lie inside this file itself.

    Raises:
        ValueError: it is absent, a group, a soft or external link, virtual, or kept in another file.
    """
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"dataset '{name}' is missing or a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external is not None:
        raise ValueError(f"dataset '{name}' does not hold its numbers in this file")
    if dataset.size and dataset.id.get_storage_size() == 0:
        raise ValueError(f"dataset '{name}' of shape {dataset.shape} was never filled")
    return dataset


@contextmanager
def reading_file(path: Path, *, remake: str) -> Iterator[None]:
    """Make one `BadInput` of whatever goes wrong inside; `remake` is the command that makes the file."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; make it with: {remake}")
    try:
        yield
    except BadInput:
        raise
    except (
        Exception
    ) as error:  # on damaged bytes h5py raises OSError, KeyError, RuntimeError, ValueError, TypeError...
        what = " ".join(str(error).split())[:200]
        raise BadInput(f"{path}: not readable ({what}); make it anew with: {remake}") from None


def _write(path: Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(f"the arrays of one file need one row a tile, got {rows}")
    full = {**header, "schema_version": schema_version(str(header["kind"]))}
    block_bytes = user_block_bytes(header_line(full, "0" * 64))
    with publish(path) as temporary:
        # Built in memory: the HDF5 library can crash when the disk is full in the middle of a file.
        content = io.BytesIO()
        # memory is copied fastest between places that lie alike to the processor's lines
        aligned = {"alignment_threshold": LARGE_BYTES, "alignment_interval": ALIGNED_BYTES}
        with h5py.File(content, "w", userblock_size=block_bytes, **aligned) as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=np.ascontiguousarray(array))
            file.create_dataset("header", data=np.bytes_(json.dumps(full).encode()))
            for name, attributes in _attributes(full).items():
                file[name].attrs.update(attributes)
        _seal(content, full, block_bytes)
        temporary.write_bytes(content.getbuffer())


def _seal(content: io.BytesIO, header: Mapping[str, Any], block_bytes: int) -> None:
    """Fill the user block with the header and the hash of everything behind it."""
    view = content.getbuffer()
    body_sha256 = hashlib.sha256(view[block_bytes:]).hexdigest()
    view[:block_bytes] = header_line(header, body_sha256).ljust(block_bytes, b"\0")


def _read(path: Path, kind: str, columns: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and check a whole file from one snapshot of its bytes; `columns` names arrays and dtypes."""
    remake = REMAKE[kind]
    with reading_file(path, remake=remake):
        content = path.read_bytes()
        line = content[: content.find(b"\n", 0, MAX_HEADER_BYTES) + 1]
        header, body_sha256 = parse_header(line, path, remake)
        check_schema(header, kind, where=path, remake=remake)
        if hashlib.sha256(memoryview(content)[user_block_bytes(line) :]).hexdigest() != body_sha256:
            raise BadInput(f"{path}: changed or damaged since it was written; make it anew with: {remake}")
        with h5py.File(io.BytesIO(content), "r") as file:
            found = checked_datasets(file, columns)
            return header, {name: dataset[()] for name, dataset in found.items()}


def checked_datasets(file: h5py.File, columns: Mapping[str, str]) -> dict[str, h5py.Dataset]:
    """Return the datasets that `columns` names; their dtypes are among those named, their rows as many.

    Raises:
        ValueError: they are not.
    """
    datasets = {name: plain_dataset(file, name) for name in columns}
    for name, expected in columns.items():
        if datasets[name].dtype.str not in expected.split():
            raise ValueError(f"'{name}' holds {datasets[name].dtype.str}, expected {expected}")
    shapes = {name: dataset.shape for name, dataset in datasets.items()}
    if len({shape[0] for shape in shapes.values()}) != 1:
        raise ValueError(f"the arrays do not have one row a tile each: {shapes}")
    return datasets


def _attributes(header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Repeat the header for other tools: attributes by HDF5 object, TRIDENT's names on `coords`."""

    def number(key: str) -> float:
        return float(header.get(key, 0.0))

    root = {key: header[key] for key in ROOT_KEYS if key in header}
    shared = {"name": str(header["slide_id"]), "savetodir": "."}
    coords = {
        "patch_size": int(number("tile_px")),
        "patch_size_level0": round(number("tile_level0_px")),
        "level0_magnification": OBJECTIVE_MPP / number("slide_mpp") if number("slide_mpp") else 0.0,
        "target_magnification": OBJECTIVE_MPP / number("tile_mpp") if number("tile_mpp") else 0.0,
        "overlap": int(number("overlap_px")),
        "level0_width": int(number("level0_width")),
        "level0_height": int(number("level0_height")),
        **shared,
    }
    attributes = {"/": {**root, "wsi_kd_version": __version__}, "coords": coords}
    if header["kind"] == "features":
        attributes["features"] = {"encoder": str(header.get("encoder", "")), **shared}
    return attributes
