"""All bags of a cohort end to end, in memory or on disk: feature files in, a `BagSet` out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int64

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.rows import Rows, RowsOnDisk
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import FeatureFile, read_features
from wsi_kd.features.stored_rows import StoredFeatures, check_features

AnyFile = TypeVar("AnyFile", FeatureFile, StoredFeatures)

MUST_AGREE = (
    "encoder",
    "encoder_settings",
    "weights_hash",
    "feature_dim",
    "tile_px",
    "tile_mpp",
    "overlap_px",
    "stain",
)
"""What makes features comparable: keys of the feature files' headers."""


class BagSet(NamedTuple):
    """Bags one after another; bag i is `features[offsets[i]:offsets[i + 1]]`."""

    slide_ids: tuple[str, ...]
    features: Rows
    """An array (instances, features), or `RowsOnDisk` of that shape."""
    offsets: Int64[np.ndarray, "bags+1"]
    labels: Int64[np.ndarray, "bags"]
    tile_labels: Rows
    """Of each instance, as in its feature file; so are the coords."""
    coords: Rows
    header: dict[str, Any]
    """Header of the first bag's file; all agree in `MUST_AGREE`."""

    def select(self, slide_ids: Sequence[str]) -> "BagSet":
        """Return the bags of `slide_ids`, in that order.

        Raises:
            BadInput: slides without a bag.
        """
        index_of = {slide_id: index for index, slide_id in enumerate(self.slide_ids)}
        absent = [slide_id for slide_id in slide_ids if slide_id not in index_of]
        if absent:
            raise BadInput(f"no bags for these slides: {listed(absent)}; make them with: wsi-kd embed")
        indices = [index_of[slide_id] for slide_id in slide_ids]
        sizes = np.diff(self.offsets)[indices]
        return self._replace(
            slide_ids=tuple(slide_ids),
            features=self._rows_of(self.features, indices),
            offsets=_offsets(sizes.tolist()),
            labels=self.labels[indices],
            tile_labels=self._rows_of(self.tile_labels, indices),
            coords=self._rows_of(self.coords, indices),
        )

    def announce(self, indices: Sequence[int]) -> None:
        """Tell of bags whose features are needed next; where they are on disk, the system reads ahead."""
        if isinstance(self.features, RowsOnDisk):
            for index in indices:
                self.features.parts[index].announce()

    def _rows_of(self, rows: Rows, indices: Sequence[int]) -> Any:
        if isinstance(rows, RowsOnDisk):
            return rows.of_parts(indices)
        spans = [slice(self.offsets[index], self.offsets[index + 1]) for index in indices]
        return np.concatenate([rows[:0], *(rows[span] for span in spans)])


def load_bags(
    features_dir: Path, rows: Sequence[SlideRow], classes: Sequence[str], *, on_disk: bool = False
) -> BagSet:
    """Check the feature files `<slide_id>.h5` of slides with status ok; bags in the rows' order, as stored.

    Files are checked by as many threads as this process may use cores, a few ahead. In memory they become one
    growing array: the peak is the bags' size and two files' a thread. `on_disk` they stay files, of which
    nothing is held: features, coords and tile labels are `RowsOnDisk`.

    Raises:
        BadInput: missing or damaged files, NaN, slides that failed or have no tiles, features of another
            encoder, dimension or tiling than the first slide's (those slides are listed).
    """
    if not rows:
        raise BadInput(f"{features_dir}: no slides to load; expected at least one with status ok")
    missing = [row.slide_id for row in rows if not (features_dir / f"{row.slide_id}.h5").is_file()]
    if missing:
        raise BadInput(
            f"{features_dir}: no feature files of: {listed(missing)}; make them with: wsi-kd embed"
        )
    columns = _left_on_disk(features_dir, rows) if on_disk else _in_memory(features_dir, rows)
    return BagSet(
        slide_ids=tuple(row.slide_id for row in rows),
        labels=np.array([list(classes).index(row.label) for row in rows], dtype=np.int64),
        **columns._asdict(),
    )


class _Columns(NamedTuple):
    """Files end to end."""

    features: Rows
    offsets: Int64[np.ndarray, "bags+1"]
    tile_labels: Rows
    coords: Rows
    header: dict[str, Any]


def _in_memory(features_dir: Path, rows: Sequence[SlideRow]) -> _Columns:
    """Read file by file into one growing array; those of another width or dtype than the first stay out."""
    read = _checked_ahead(features_dir, rows, read_features)
    first = next(read)
    same, features, coords, tile_labels = (
        _Sameness(first),
        first.features.copy(),
        [first.coords],
        [first.tile_labels],
    )
    for file in read:
        if same.holds_for(file):
            filled = len(features)
            # realloc moves pages, not bytes: twice as fast as np.concatenate, at half its peak of memory
            features.resize((filled + len(file.features), features.shape[1]), refcheck=False)
            features[filled:] = file.features
        coords.append(file.coords)
        tile_labels.append(file.tile_labels)
    same.require(features_dir)
    offsets = _offsets([len(part) for part in coords])
    return _Columns(features, offsets, np.concatenate(tile_labels), np.concatenate(coords), first.header)


def _left_on_disk(features_dir: Path, rows: Sequence[SlideRow]) -> _Columns:
    checked = _checked_ahead(features_dir, rows, check_features)
    first = next(checked)
    same, files = _Sameness(first), [first]
    for file in checked:
        same.holds_for(file)
        files.append(file._replace(header={}))  # of 100,000 slides a gigabyte
    same.require(features_dir)
    return _Columns(
        features=RowsOnDisk([file.features for file in files]),
        offsets=_offsets([len(file.features) for file in files]),
        tile_labels=RowsOnDisk([file.tile_labels for file in files]),
        coords=RowsOnDisk([file.coords for file in files]),
        header=first.header,
    )


def _checked_ahead(
    features_dir: Path, rows: Sequence[SlideRow], check: Callable[[Path], AnyFile]
) -> Iterator[AnyFile]:
    """Yield the files in the rows' order; threads are busy with the next ones: most of the time is sha256."""
    threads = usable_cpus()
    waiting: deque[Future[AnyFile]] = deque()

    def checked(row: SlideRow) -> AnyFile:
        path = features_dir / f"{row.slide_id}.h5"
        file = check(path)
        _require_tiles(path, file, row)
        return file

    with ThreadPoolExecutor(threads) as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(checked, row))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _require_tiles(path: Path, file: FeatureFile | StoredFeatures, row: SlideRow) -> None:
    if file.slide_id != row.slide_id:
        raise BadInput(f"{path}: holds the slide '{file.slide_id}'; make it anew with: wsi-kd embed")
    if file.header["status"] != SlideStatus.OK:
        raise BadInput(f"{path}: this slide ended as {file.header['status']}; split anew with: wsi-kd split")
    if not len(file.features):
        raise BadInput(f"{path}: a slide with status ok but without tiles; make it anew with: wsi-kd embed")


class _Sameness:
    """Whether files hold the same kind of features as the first one."""

    def __init__(self, first: FeatureFile | StoredFeatures) -> None:
        self._slide_id, self._traits = first.slide_id, _traits(first)
        self._differing: list[str] = []

    def holds_for(self, file: FeatureFile | StoredFeatures) -> bool:
        """Tell; remember those of which it does not hold."""
        found, first = _traits(file), self._traits
        keys = [key for key in first if found[key] != first[key]]
        if keys:
            told = ", ".join(f"{key} {_short(found[key])} instead of {_short(first[key])}" for key in keys)
            self._differing.append(f"{file.slide_id} ({told})")
        return not keys

    def require(self, features_dir: Path) -> None:
        """Refuse the files when it did not hold of all."""
        if self._differing:
            raise BadInput(
                f"{features_dir}: {len(self._differing)} slides have other features than {self._slide_id}: "
                f"{listed(self._differing)}; give all one encoder and tiling: remove the odd files and run "
                "wsi-kd embed"
            )


def _traits(file: FeatureFile | StoredFeatures) -> dict[str, Any]:
    stored = {"dimension": file.features.shape[1], "dtype": str(file.features.dtype)}
    return {**{key: file.header.get(key) for key in MUST_AGREE}, **stored}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - a line stays readable


def _offsets(sizes: Sequence[int]) -> Int64[np.ndarray, "{len(sizes)+1}"]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
