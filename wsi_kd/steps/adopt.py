"""Step adopt: features of another program -> features/<slide_id>.h5 as embed would leave them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.slide_files import is_regular_file
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import file_hash
from wsi_kd.core.progress import slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.core.shapes import TileLabels
from wsi_kd.features.foreign import UnknownResolution, read_foreign_slide
from wsi_kd.features.foreign_folders import ForeignFolder, ForeignSlide, files_of, find_foreign
from wsi_kd.features.foreign_header import GIVEN_ENCODER, UNKNOWN_ENCODER
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.settings.all import Settings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.frame import slide_center_nm
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.kept_features import kept_features
from wsi_kd.steps.status import failure, inputs_hash, status_row, write_status
from wsi_kd.steps.tile import slide_tile_labels

STEP = "adopt"
KIND = "features"
OWN_LAYOUT = "wsi_kd"
LABEL_SETTINGS = ("positive_names", "exclude_names", "label_rule", "min_positive_fraction")
"""Settings of the section `tile` by which annotations label given tiles."""


class Origin(NamedTuple):
    """Where one slide's features come from: its row, its files (None: there are none), their sha256."""

    row: SlideRow
    slide: ForeignSlide | None
    sha256: tuple[str, ...]


def run_adopt(
    rows: Sequence[SlideRow],
    *,
    features_dir: Path,
    status_path: Path,
    settings: Settings,
    negative_label: str | None = None,
) -> list[StatusRow]:
    """Write `features_dir/<slide_id>.h5` for every slide, then the status table; files that still fit stay.

    One slide is in memory at a time. A slide without a file, or with one that cannot be used, ends with a
    status and the reason.

    Args:
        rows: the job's slides.
        features_dir: folder of the feature files to write.
        status_path: the job's status table.
        settings: section `adopt` is used, and of `tile` what labels annotated tiles.
        negative_label: the manifest's negative class.

    Raises:
        BadInput: no such folder or no features in it; a slide whose annotation cannot label its tiles.
        RunFailed: a file could not be written.
    """
    found = given_folder(settings.adopt)
    statuses = []
    with slide_progress(STEP, total=len(rows)) as finish:
        for row in rows:
            started = time.perf_counter()
            origin = origin_of(row, found)
            path = features_dir / f"{row.slide_id}.h5"
            expected = adopted_hash(origin, settings, negative_label=negative_label)
            features = kept_features(path, expected)
            if features is None:
                features = _signed(
                    adopt_slide(origin, settings, negative_label=negative_label),
                    origin,
                    settings,
                    expected=expected,
                )
                write_features(path, features)
            seconds = time.perf_counter() - started
            tiles = len(features.coords)
            statuses.append(status_row(features.header, step=STEP, tiles=tiles, seconds=seconds))
            finish(statuses[-1])
    write_status(status_path, statuses, stamp(STEP, _sections(settings)))
    return statuses


def given_folder(adopt: AdoptSettings) -> ForeignFolder:
    """List the features that the settings name.

    Raises:
        BadInput: none are named, no such folder, or nothing in it.
    """
    if adopt.folder is None:
        raise BadInput("adopt.folder: not set; name the folder of the features that another program made")
    return find_foreign(adopt.folder, adopt.layout)


def adopt_slide(origin: Origin, settings: Settings, *, negative_label: str | None) -> FeatureFile:
    """Read one slide's given features and label their tiles; what cannot be used has none and says why.

    Raises:
        BadInput: an annotation that cannot label the tiles.
    """
    row, adopt = origin.row, settings.adopt
    if origin.slide is None:
        reason = (
            f"no features of this slide in the folder {'' if adopt.folder is None else adopt.folder.name}"
        )
        return _without(row, SlideStatus.MISSING_FEATURES, reason)
    try:
        features = read_foreign_slide(
            origin.slide, slide_mpp=row.slide_mpp or adopt.slide_mpp, encoder=adopt.encoder
        )
    except BadInput as error:
        reason = str(error).replace(str(origin.slide.path), origin.slide.path.name)
        is_unplaced = isinstance(error, UnknownResolution)
        return _without(row, SlideStatus.MISSING_MPP if is_unplaced else SlideStatus.UNREADABLE, reason)
    try:
        _place(features, row)
    except SlideProblem as problem:
        return _without(row, problem.status, problem.reason)
    labels = _labels(features, row, settings, negative_label=negative_label)
    return features._replace(slide_id=row.slide_id, tile_labels=labels)


def _place(features: FeatureFile, row: SlideRow) -> None:
    """Ask an annotated slide, where its file is there, for the frame its annotation is drawn in.

    QuPath counts from the corner of the slide's bounds, NDP.view from its center; without the file both are
    taken to be those of a slide without bounds.

    Raises:
        SlideProblem: the slide cannot be read.
    """
    own = features.header.get("layout", OWN_LAYOUT) == OWN_LAYOUT
    if own or not _is_drawn_on(row):
        return
    with open_slide(row.path, background="white") as reader:
        width, height = reader.level_dimensions[0]
        features.header.update(
            level0_width=width,
            level0_height=height,
            bounds=list(reader.bounds),
            center_nm=slide_center_nm(reader.properties),
        )


def _is_drawn_on(row: SlideRow) -> bool:
    """Whether an annotation has a slide that can tell its frame; MIRAX and the like are files too."""
    return row.annotation is not None and is_regular_file(row.path)


def _labels(
    features: FeatureFile, row: SlideRow, settings: Settings, *, negative_label: str | None
) -> TileLabels:
    """Keep labels that came with the features where they name a positive tile on a slide that may have one.

    Zeros alone may be another task's, whose negative slides need not be negative here; where no manifest
    names classes they stay. An annotation goes before all.
    """
    came = features.tile_labels
    is_usable = (came >= 0).any() if negative_label is None else (came == 1).any()
    if not len(came) or (row.annotation is None and is_usable and row.label != negative_label):
        return came
    header = features.header
    is_placed = header.get("coords_given", True) and float(header["tile_level0_px"]) > 0
    if row.annotation is not None and not is_placed:
        raise BadInput(
            f"{row.annotation}: cannot label the tiles of {row.slide_id}: its features came without "
            "positions or tile sizes; take the annotation out of the manifest, or give such features"
        )
    return slide_tile_labels(
        features.coords, row, settings.tile, header=header, negative_label=negative_label
    )


def origin_of(row: SlideRow, found: ForeignFolder) -> Origin:
    """Find a slide's files in a folder and hash them: what changes in them changes the features."""
    slide = found.slides.get(row.slide_id)
    files = [] if slide is None else files_of(slide)
    return Origin(row, slide, tuple(file_hash(path) for path in files))


def _signed(features: FeatureFile, origin: Origin, settings: Settings, *, expected: str) -> FeatureFile:
    """Add what every feature file of this project says; our own files keep the settings that made them."""
    layout = "" if origin.slide is None else origin.slide.layout
    made_with = features.header.get("settings", {}) if layout == OWN_LAYOUT else _sections(settings)
    adopted = {
        "layout": layout,
        "file": "" if origin.slide is None else origin.slide.path.name,
        "sha256": list(origin.sha256),
    }
    header = {
        **features.header,
        **stamp(KIND, made_with),
        "slide_id": origin.row.slide_id,
        "adopted": adopted,
        "inputs_hash": expected,
    }
    return features._replace(header=header)


def _sections(settings: Settings) -> dict[str, Any]:
    adopt = settings.adopt.model_dump(mode="json")
    return {"adopt": {**adopt, "folder": "" if settings.adopt.folder is None else settings.adopt.folder.name}}


def _without(row: SlideRow, status: SlideStatus, reason: str) -> FeatureFile:
    """Return a slide without tiles; its header has every key that a later step reads."""
    header = {
        "slide_id": row.slide_id,
        **failure(status, reason, step=STEP),
        "layout": "",
        "tile_px": 0,
        "tile_mpp": 0.0,
        "tile_level0_px": 0.0,
        "overlap_px": 0,
        "mpp_tolerance": 0.0,
        "slide_mpp": row.slide_mpp or 0.0,
        "mpp_source": "override" if row.slide_mpp else "",
        "level0_width": 0,
        "level0_height": 0,
        "bounds": [0, 0, 0, 0],
        "tissue_mm2": 0.0,
        "encoder": f"{GIVEN_ENCODER}{UNKNOWN_ENCODER}",
        "encoder_settings": {},
        "weights_hash": "",
        "feature_dim": 0,
        "feature_dtype": "float32",
        "feature_names": [],
        "settings": {},
    }
    none = np.zeros((0, 0), np.float32)
    return FeatureFile(row.slide_id, none, np.zeros((0, 2), np.int64), np.zeros(0, np.int8), header)


def adopted_hash(origin: Origin, settings: Settings, *, negative_label: str | None) -> str:
    """Return the hash of all that a slide's adopted features follow from."""
    row, tile = origin.row, settings.tile.model_dump(mode="json")
    parts: Mapping[str, Any] = {
        "adopt": settings.adopt.model_dump(mode="json", exclude={"folder"}),
        "layout": "" if origin.slide is None else origin.slide.layout,
        "told": {} if origin.slide is None else dict(origin.slide.told),
        "sha256": list(origin.sha256),
        "slide_mpp": row.slide_mpp,
        "label": row.label,
        "negative_label": negative_label,
        "annotation_sha256": file_hash(row.annotation) if row.annotation else "",
        "drawn_on": slide_fingerprint(row.path) if _is_drawn_on(row) else "",
        "tile": {name: tile[name] for name in LABEL_SETTINGS if row.annotation},
    }
    return inputs_hash(STEP, parts)
