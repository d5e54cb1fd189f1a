"""Folders of our own feature files: several into one (merge), or a part of one (subset)."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from wsi_kd.bags.datasets import MUST_AGREE
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish
from wsi_kd.core.progress import slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.foreign_folders import ForeignSlide, find_foreign
from wsi_kd.features.quality_columns import UNKNOWN
from wsi_kd.features.store import FeatureFile, read_features, read_header, write_features
from wsi_kd.steps.kept_features import kept_features
from wsi_kd.steps.status import failure, inputs_hash, status_row, write_status

MERGE, SUBSET = "merge", "subset"
STATUS = "status.csv"
OWN_LAYOUT = "wsi_kd"


class TileChoice(NamedTuple):
    """Which tiles of a slide are kept; a tile must pass all that is asked."""

    min_tissue_fraction: float = 0.0
    """Smallest share of tissue; 0 asks nothing."""
    box_level0_px: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom: a tile's top-left corner must lie inside, right and bottom excluded."""
    max_tiles: int = 0
    """At most this many, drawn by slide id and `seed`; 0: all."""
    seed: int = 0


def run_merge(folders: Sequence[Path], dest: Path) -> list[StatusRow]:
    """Bring the feature files of several folders into one, byte for byte; files already there stay.

    Nothing is written before all headers were looked at.

    Raises:
        BadInput: folders of another layout, slides in two folders, features that cannot be trained on
            together (another encoder, dimension or tiling), a damaged file, other slides in `dest`.
        RunFailed: a file could not be written.
    """
    slides = [slide for folder in folders for slide in _own_slides(folder)]
    _refuse_duplicates(slides)
    _refuse_unlike(slides)
    _refuse_strangers(dest, {slide.slide_id for slide in slides})
    statuses = []
    with slide_progress(MERGE, total=len(slides)) as finish:
        for slide in slides:
            features = read_features(slide.path)
            _copy(slide.path, dest / f"{slide.slide_id}.h5")
            statuses.append(status_row(features.header, step=MERGE, tiles=len(features.coords), seconds=0.0))
            finish(statuses[-1])
    described = {"merge": {"folders": [folder.name for folder in folders]}}
    write_status(dest / STATUS, statuses, stamp(MERGE, described))
    return statuses


def run_subset(
    folder: Path,
    dest: Path,
    *,
    slide_ids: Collection[str] | None,
    choice: TileChoice,
) -> list[StatusRow]:
    """Write the chosen slides of a folder with the chosen tiles; a slide left without tiles says so.

    Raises:
        BadInput: slides that the folder does not hold (all are named), tissue that was not measured, or
            `dest` is the folder itself, whose other tiles would be lost.
        RunFailed: a file could not be written.
    """
    slides = _own_slides(folder)
    if any(slide.path.parent.resolve() == dest.resolve() for slide in slides):
        raise BadInput(f"{dest}: source and destination are one folder; name another destination")
    if slide_ids is not None:
        missing = sorted(set(slide_ids) - {slide.slide_id for slide in slides})
        if missing:
            raise BadInput(f"{folder}: no features of {len(missing)} slides: {listed(missing)}")
        slides = [slide for slide in slides if slide.slide_id in slide_ids]
    statuses = []
    with slide_progress(SUBSET, total=len(slides)) as finish:
        for slide in slides:
            path = dest / slide.path.name
            expected = inputs_hash(SUBSET, {"choice": choice._asdict(), "sha256": file_hash(slide.path)})
            features = kept_features(path, expected)
            if features is None:
                features = choose_tiles(read_features(slide.path), choice, where=slide.path)
                features.header["inputs_hash"] = expected
                write_features(path, features)
            statuses.append(status_row(features.header, step=SUBSET, tiles=len(features.coords), seconds=0.0))
            finish(statuses[-1])
    write_status(dest / STATUS, statuses, stamp(SUBSET, {"subset": _described(choice)}))
    return statuses


def choose_tiles(features: FeatureFile, choice: TileChoice, *, where: Path) -> FeatureFile:
    """Return a slide with the tiles that `choice` keeps, in their order.

    Raises:
        BadInput: tissue is asked for, but was not measured.
    """
    kept = _mask(features, choice, where=where)
    header: dict[str, Any] = {**features.header, "subset": _described(choice)}
    if header["status"] == SlideStatus.OK and not kept.any():
        reason = f"none of {len(kept)} tiles is left of the chosen part"
        header.update(failure(SlideStatus.TOO_FEW_TILES, reason, step=SUBSET))
    quality = features.quality
    return features._replace(
        features=features.features[kept],
        coords=features.coords[kept],
        tile_labels=features.tile_labels[kept],
        quality=None if quality is None else type(quality)(*(column[kept] for column in quality)),
        header=header,
    )


def _mask(features: FeatureFile, choice: TileChoice, *, where: Path) -> Bool[np.ndarray, "tiles"]:
    kept = np.ones(len(features.coords), bool)
    if choice.min_tissue_fraction > 0 and len(kept):
        tissue = None if features.quality is None else features.quality.tissue_fraction
        if tissue is None or (tissue == UNKNOWN).any():
            raise BadInput(
                f"{where}: the share of tissue of its tiles is not known (features of another program); "
                "leave out --min-tissue-fraction"
            )
        kept &= tissue >= choice.min_tissue_fraction
    if choice.box_level0_px is not None:
        left, top, right, bottom = choice.box_level0_px
        x, y = features.coords.T
        kept &= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if choice.max_tiles and kept.sum() > choice.max_tiles:
        seed = int(hashlib.sha256(f"{choice.seed}\n{features.slide_id}".encode()).hexdigest()[:16], 16)
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(kept))[: choice.max_tiles]
        kept[:] = False
        kept[drawn] = True
    return kept


def _described(choice: TileChoice) -> dict[str, Any]:
    box = choice.box_level0_px
    return {**choice._asdict(), "box_level0_px": None if box is None else list(box)}


def _own_slides(folder: Path) -> list[ForeignSlide]:
    found = find_foreign(folder)
    if found.layout != OWN_LAYOUT:
        raise BadInput(
            f"{folder}: features in the layout {found.layout}; convert them first with: "
            f"wsi-kd features convert {folder} NEW_FOLDER"
        )
    return list(found.slides.values())


def _refuse_duplicates(slides: Sequence[ForeignSlide]) -> None:
    first: dict[str, Path] = {}
    twice = []
    for slide in slides:
        if slide.slide_id in first:
            twice.append(f"{slide.slide_id} ({first[slide.slide_id].parent} and {slide.path.parent})")
        first.setdefault(slide.slide_id, slide.path)
    if twice:
        raise BadInput(f"{len(twice)} slides stand in two folders: {listed(twice)}; keep one of each")


def _refuse_unlike(slides: Sequence[ForeignSlide]) -> None:
    """Compare what makes features comparable; slides without tiles have none of it."""
    traits: dict[Path, dict[str, Any]] = {}
    for slide in slides:
        header = read_header(slide.path)
        if header.get("status") == SlideStatus.OK:
            traits[slide.path] = {key: header.get(key) for key in (*MUST_AGREE, "feature_dtype")}
    expected = next(iter(traits.values()), {})
    odd = []
    for path, found in traits.items():
        keys = [key for key in expected if found[key] != expected[key]]
        if keys:
            told = ", ".join(f"{key} {found[key]} instead of {expected[key]}" for key in keys)
            odd.append(f"{path} ({told})")
    if odd:
        raise BadInput(
            f"{len(odd)} slides have other features than {next(iter(traits))}: {listed(odd, limit=5)}; "
            "only slides of one encoder and tiling can be trained on together"
        )


def _refuse_strangers(dest: Path, slide_ids: Collection[str]) -> None:
    """Refuse slides that lie in the destination and come from no source: nobody compared their features."""
    others = sorted(path.stem for path in dest.glob("*.h5") if path.stem not in slide_ids)
    if others:
        raise BadInput(
            f"{dest}: holds {len(others)} other slides: {listed(others)}; name an empty folder, or add "
            "theirs to the sources"
        )


def _copy(source: Path, dest: Path) -> None:
    if dest.is_file() and file_hash(dest) == file_hash(source):
        return
    with publish(dest) as temporary:
        temporary.write_bytes(source.read_bytes())
