"""All bags of a cohort in one array: feature files in, a `BagSet` out."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Coords, FeatureArray, TileLabels
from wsi_kd.features.store import FeatureFile, read_features

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
    features: FeatureArray
    offsets: Int64[np.ndarray, "bags+1"]
    labels: Int64[np.ndarray, "bags"]
    tile_labels: TileLabels
    coords: Coords
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
        spans = [slice(self.offsets[index], self.offsets[index + 1]) for index in indices]
        return self._replace(
            slide_ids=tuple(slide_ids),
            features=np.concatenate([self.features[:0], *(self.features[span] for span in spans)]),
            offsets=_offsets([int(span.stop - span.start) for span in spans]),
            labels=self.labels[indices],
            tile_labels=np.concatenate([self.tile_labels[:0], *(self.tile_labels[span] for span in spans)]),
            coords=np.concatenate([self.coords[:0], *(self.coords[span] for span in spans)]),
        )


def load_bags(features_dir: Path, rows: Sequence[SlideRow], classes: Sequence[str]) -> BagSet:
    """Read the feature files `<slide_id>.h5` of slides with status ok, in the rows' order and as stored.

    Files are read and checked by as many threads as this process may use cores, a few ahead, into one growing
    array: the peak of memory is the bags' size and two files' a thread.

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
    files, features = _gather(features_dir, rows)
    _check_agreement(features_dir, files)
    return BagSet(
        slide_ids=tuple(row.slide_id for row in rows),
        features=features,
        offsets=_offsets([len(file.coords) for file in files]),
        labels=np.array([list(classes).index(row.label) for row in rows], dtype=np.int64),
        tile_labels=np.concatenate([file.tile_labels for file in files]),
        coords=np.concatenate([file.coords for file in files]),
        header=files[0].header,
    )


class _Gathered(NamedTuple):
    """Files without their features (only the width and dtype are left), and these end to end."""

    files: list[FeatureFile]
    features: FeatureArray


def _gather(features_dir: Path, rows: Sequence[SlideRow]) -> _Gathered:
    """Read file by file into one growing array; those of another width or dtype than the first stay out."""
    read = _read_ahead(features_dir, rows)
    first = next(read)
    files, features = [_emptied(first)], first.features.copy()
    for file in read:
        files.append(_emptied(file))
        if file.features.shape[1] == features.shape[1] and file.features.dtype == features.dtype:
            filled = len(features)
            # realloc moves pages, not bytes: twice as fast as np.concatenate, at half its peak of memory
            features.resize((filled + len(file.features), features.shape[1]), refcheck=False)
            features[filled:] = file.features
    return _Gathered(files, features)


def _read_ahead(features_dir: Path, rows: Sequence[SlideRow]) -> Iterator[FeatureFile]:
    """Yield the files in the rows' order; threads are busy with the next ones: most of the time is sha256."""
    threads = usable_cpus()
    waiting: deque[Future[FeatureFile]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(_read, features_dir / f"{row.slide_id}.h5", row))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _emptied(file: FeatureFile) -> FeatureFile:
    return file._replace(features=file.features[:0].copy())


def _read(path: Path, row: SlideRow) -> FeatureFile:
    file = read_features(path)
    if file.slide_id != row.slide_id:
        raise BadInput(f"{path}: holds the slide '{file.slide_id}'; make it anew with: wsi-kd embed")
    if file.header["status"] != SlideStatus.OK:
        raise BadInput(f"{path}: this slide ended as {file.header['status']}; split anew with: wsi-kd split")
    if not len(file.features):
        raise BadInput(f"{path}: a slide with status ok but without tiles; make it anew with: wsi-kd embed")
    return file


def _check_agreement(features_dir: Path, files: Sequence[FeatureFile]) -> None:
    first = _traits(files[0])
    differing = []
    for file in files[1:]:
        found = _traits(file)
        keys = [key for key in first if found[key] != first[key]]
        if keys:
            told = ", ".join(f"{key} {_short(found[key])} instead of {_short(first[key])}" for key in keys)
            differing.append(f"{file.slide_id} ({told})")
    if differing:
        raise BadInput(
            f"{features_dir}: {len(differing)} slides have other features than {files[0].slide_id}: "
            f"{listed(differing)}; give all one encoder and tiling: remove the odd files and run wsi-kd embed"
        )


def _traits(file: FeatureFile) -> dict[str, Any]:
    stored = {"dimension": file.features.shape[1], "dtype": str(file.features.dtype)}
    return {**{key: file.header.get(key) for key in MUST_AGREE}, **stored}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - a line stays readable


def _offsets(sizes: Sequence[int]) -> Int64[np.ndarray, "{len(sizes)+1}"]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
