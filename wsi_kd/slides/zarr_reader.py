"""OME-Zarr (NGFF 0.4 and 0.5) by zarr-python, which is an optional dependency.

Source: https://ngff.openmicroscopy.org/0.5/ (multiscales, axes, coordinateTransformations). A chunk that was
never written holds the array's fill value, as Zarr defines it.
"""

import math
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.slides.protocol import Background, unreadable
from wsi_kd.slides.samples import BITS, RGB, SampleModel, to_rgb
from wsi_kd.slides.segment_reader import SegmentReader
from wsi_kd.slides.segments import LevelGrid, Segment
from wsi_kd.slides.tiff_pages import MAX_SEGMENT_BYTES

METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup")
AXES = "tczyx"
_BLOSC_HEADER = struct.Struct("<4BIII")
"""Versions, flags and type size; then bytes decoded, bytes a block, bytes stored (Blosc 1 and 2)."""


class _Multiscale(NamedTuple):
    """One image: its arrays, finest first, and where each axis lies in them."""

    arrays: tuple[Any, ...]
    position: dict[str, int]
    scale: dict[str, float]
    units: dict[str, str]


def open_zarr(path: Path, *, background: Background) -> SegmentReader:
    """Open a folder that is an OME-Zarr image.

    Raises:
        SlideProblem: unreadable, without zarr-python, for damaged metadata and stacks; empty, for channels
            that are no brightfield colors.
    """
    return SegmentReader(path, background=background, open_source=ZarrSource)


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr hierarchy."""
    return any((path / name).is_file() for name in METADATA_FILES)


class ZarrSource:
    """The levels of one OME-Zarr image, read chunk by chunk."""

    def __init__(self, path: Path) -> None:
        image, others = _open_image(path)
        self.format = "zarr/ome"
        self.associated: Mapping[str, tuple[int, int]] = others
        _check_axes(image)
        self._root, self._arrays, self._position = path, image.arrays, image.position
        bits = BITS * int(image.arrays[0].dtype.itemsize)
        self._model = SampleModel(bits, inverted=False, colormap=None, alpha=False, premultiplied=False)
        self.grids: tuple[LevelGrid, ...] = tuple(_grid(array, image.position) for array in image.arrays)
        self.bounds = Box(0, 0, self.grids[0].width_px, self.grids[0].height_px)
        self.properties: Mapping[str, str] = _properties(image)
        self.icc_profile: bytes | None = None

    def read_segment(self, level: int, *, column: int, row: int) -> Segment:
        """Decode the chunks of one place, one for each channel where they are stored apart.

        Raises:
            ValueError: (or what zarr raises) for damaged chunks.
        """
        array, grid = self._arrays[level], self.grids[level]
        top, left = row * grid.segment_height_px, column * grid.segment_width_px
        places = {
            "y": slice(top, min(top + grid.segment_height_px, grid.height_px)),
            "x": slice(left, min(left + grid.segment_width_px, grid.width_px)),
            "c": slice(None),
        }
        self._check_blosc(array, {"y": row, "x": column})
        axes = [axis for axis in self._position if axis in places]
        picked = tuple(places.get(axis, 0) for axis in self._position)
        values = np.asarray(array[picked])
        values = np.moveaxis(values, axes.index("c"), -1) if "c" in axes else values[..., None]
        return to_rgb(values, self._model)

    def close(self) -> None:
        """Nothing stays open between reads."""

    def _check_blosc(self, array: Any, chunk: dict[str, int]) -> None:
        """Refuse a truncated chunk: Blosc trusts the size in its header and reads past the end."""
        if getattr(array, "shards", None) is not None or "blosc" not in str(array.compressors).lower():
            return
        channels = (
            -(-array.shape[self._position["c"]] // array.chunks[self._position["c"]])
            if "c" in self._position
            else 1
        )
        for channel in range(channels):
            index = {**chunk, "c": channel}
            key = array.metadata.encode_chunk_key(tuple(index.get(axis, 0) for axis in self._position))
            _check_blosc_file(self._root / array.path / key)


def _check_blosc_file(file: Path) -> None:
    if not file.is_file():
        return
    with file.open("rb") as handle:
        header = handle.read(_BLOSC_HEADER.size)
    if len(header) < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack(header)[-1] != file.stat().st_size:
        raise ValueError(f"chunk {file.name} is cut short")


def _open_image(path: Path) -> tuple[_Multiscale, dict[str, tuple[int, int]]]:
    """Open the image; of several (bioformats2raw's layout) the first, the others are associated images."""
    if find_spec("zarr") is None:
        raise unreadable('an OME-Zarr, which needs zarr: pip install "wsi-kd[zarr]"')
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        attributes = _attributes(group)
        if "plate" in attributes or "well" in attributes:
            raise unreadable("a plate of many images; give the folder of one of them")
        if "multiscales" in attributes:
            return _multiscale(group), {}
        images = [group[name] for name in sorted(group.group_keys()) if name.isdigit()]
        found = [_multiscale(image) for image in images if "multiscales" in _attributes(image)]
    except SlideProblem:
        raise
    except Exception as error:  # zarr raises whatever its stores and codecs do
        raise unreadable(f"its Zarr metadata are damaged ({type(error).__name__}: {error})"[:250]) from None
    if not found:
        raise unreadable("a Zarr folder without an OME multiscales image; give the folder that has one")
    sizes = {f"image {number}": _size(image) for number, image in enumerate(found[1:], start=1)}
    return found[0], sizes


def _attributes(group: Any) -> dict[str, Any]:
    """Return OME's metadata: below `ome` since 0.5, at the top before."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _multiscale(group: Any) -> _Multiscale:
    described = _attributes(group)["multiscales"][0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in described.get("axes", AXES)]
    names = [str(axis["name"]) for axis in axes]
    datasets = described["datasets"]
    arrays = tuple(group[dataset["path"]] for dataset in datasets)
    if any(array.ndim != len(names) for array in arrays):
        raise ValueError(f"axes {', '.join(names)} for arrays of {arrays[0].ndim} dimensions")
    scale = [
        math.prod(factors)
        for factors in zip(_scale(datasets[0], len(names)), _scale(described, len(names)), strict=True)
    ]
    return _Multiscale(
        arrays,
        {name: place for place, name in enumerate(names)},
        dict(zip(names, scale, strict=True)),
        {str(axis["name"]): str(axis.get("unit", "")) for axis in axes},
    )


def _scale(described: dict[str, Any], axes: int) -> list[float]:
    transforms = described.get("coordinateTransformations", [])
    scales = [transform["scale"] for transform in transforms if transform.get("type") == "scale"]
    return [float(value) for value in scales[0]] if scales else [1.0] * axes


def _check_axes(image: _Multiscale) -> None:
    """Accept one time point, one focal plane and one or three channels of 8 or 16 bits."""
    first = image.arrays[0]
    if not {"x", "y"} <= set(image.position) <= set(AXES):
        raise unreadable(f"axes {', '.join(image.position)}; expected some of t, c, z and y, x")
    if first.dtype not in {np.dtype("uint8"), np.dtype("uint16")}:
        raise unreadable(f"its samples are {first.dtype}; export 8-bit RGB")
    for axis, name in (("t", "time points"), ("z", "focal planes")):
        if axis in image.position and first.shape[image.position[axis]] > 1:
            raise unreadable(f"{first.shape[image.position[axis]]} {name}; export one of them")
    channels = first.shape[image.position["c"]] if "c" in image.position else 1
    if channels not in {1, RGB}:
        reason = f"{channels} channels: fluorescence or multiplexed, no brightfield; export it as 8-bit RGB"
        raise SlideProblem(SlideStatus.EMPTY, reason)


def _grid(array: Any, position: dict[str, int]) -> LevelGrid:
    x, y = position["x"], position["y"]
    width, height = int(array.shape[x]), int(array.shape[y])
    grid = LevelGrid(width, height, min(int(array.chunks[x]), width), min(int(array.chunks[y]), height))
    if 0 in grid:
        raise unreadable("a level without pixels; export the slide again")
    decoded = grid.segment_width_px * grid.segment_height_px * RGB * array.dtype.itemsize
    if decoded > MAX_SEGMENT_BYTES:
        size = f"{grid.segment_width_px}x{grid.segment_height_px}"
        raise unreadable(
            f"stored in chunks of {size} px, {decoded / 2**20:,.0f} MiB each; write smaller ones"
        )
    return grid


def _size(image: _Multiscale) -> tuple[int, int]:
    shape = image.arrays[0].shape
    return int(shape[image.position["x"]]), int(shape[image.position["y"]])


def _properties(image: _Multiscale) -> dict[str, str]:
    """Tell the compression, and the scale of level 0 where both axes have the same unit."""
    codecs = [type(codec).__name__.removesuffix("Codec") for codec in image.arrays[0].compressors]
    found = {"stored.compression": ", ".join(codecs) or "none"}
    if not image.units["x"] or image.units["x"] != image.units["y"]:
        return found
    return {
        **found,
        "zarr.scale-x": f"{image.scale['x']:.12g}",
        "zarr.scale-y": f"{image.scale['y']:.12g}",
        "zarr.unit": image.units["x"],
    }
