"""Step embed: tiles -> features by a frozen encoder, one HDF5 a slide, and the job's status table."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import content_hash
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.progress import progress, slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.embed import EmbeddedTiles, embed_tiles
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.store import FeatureFile, TileFile, array_hash, read_tiles, write_features
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.steps.encoder import build_encoder, notes_of, stored_dtype, tell_notes, weights_identity
from wsi_kd.steps.kept_features import kept_features
from wsi_kd.steps.left_out import DROPPED, check_left_out, quality_check, quality_of
from wsi_kd.steps.stain_numbers import UNCHANGED, shared_numbers, slide_stains
from wsi_kd.steps.status import failure, inputs_hash, joined_notes, status_row, write_status
from wsi_kd.steps.tile_pixels import open_tiles

STEP = "embed"
KIND = "features"
SHOWN_REASONS = 3


class _Job(NamedTuple):
    """One slide's turn: its tiles, the hash its file must carry, and a former run's file that still fits."""

    row: SlideRow
    tiles: TileFile
    path: Path
    inputs_hash: str
    stain: Mapping[str, Any]
    done: FeatureFile | None


def run_embed(
    rows: Sequence[SlideRow],
    *,
    tiles_dir: Path,
    features_dir: Path,
    status_path: Path,
    settings: Settings,
    stain_path: Path | None = None,
    workers: int | None = None,
) -> list[StatusRow]:
    """Write `features_dir/<slide_id>.h5` for every slide, then the status table; files that still fit stay.

    Args:
        rows: the job's slides.
        tiles_dir: folder of the tile files.
        features_dir: folder of the feature files.
        status_path: the job's status table.
        settings: sections `slides`, `tile`, `stain` and `embed` are used.
        stain_path: the cohort's fit, where `stain.fit` is cohort.
        workers: reading threads a slide (0: none); default: the CPU cores this process may use.

    Raises:
        BadInput: an unknown encoder or weights that do not fit, a tile file that is absent or damaged, a
            slide that is not the one that was tiled, features that the chosen dtype does not hold.
        RunFailed: a file could not be written.
    """
    weights = weights_identity(settings.embed)
    stain = shared_numbers(settings, stain_path)
    jobs = [
        _job(row, tiles_dir, features_dir, settings=settings, weights=weights, stain=stain) for row in rows
    ]
    encoder = build_encoder(settings.embed) if _needs_encoder(jobs) else None
    if encoder is not None:
        tell_notes(settings)
    statuses = []
    tiles = sum(len(job.tiles.coords) for job in jobs if job.done is None)
    with (
        progress(STEP, total=tiles, unit="tiles") as on_tiles,
        slide_progress(STEP, total=len(jobs)) as finish,
    ):
        for job in jobs:
            started = time.perf_counter()
            features = job.done or _run_job(job, encoder, settings, workers=workers, on_tiles=on_tiles)
            seconds = time.perf_counter() - started
            found = len(features.coords)
            statuses.append(status_row(features.header, step=STEP, tiles=found, seconds=seconds))
            finish(statuses[-1])
    write_status(status_path, statuses, stamp(STEP, {"embed": settings.embed.model_dump(mode="json")}))
    return statuses


def embed_slide(
    tiles: TileFile,
    row: SlideRow,
    encoder: Encoder,
    *,
    settings: Settings,
    stain: Mapping[str, Any] = UNCHANGED,
    workers: int | None = None,
    on_tiles: Callable[[int], None] = lambda _: None,
) -> FeatureFile:
    """Embed one slide; one that failed before or is too damaged gets (0, D) features and the reason.

    Args:
        tiles: the slide's tiles; a failed one passes its status on.
        row: the slide's line of the manifest.
        encoder: as the section `embed` describes it.
        settings: sections `slides`, `stain` and `embed` are used.
        stain: what `stain_numbers.shared_numbers` returned in this run, or in that which trained the model.
        workers: reading threads (0: none); default: the CPU cores this process may use.
        on_tiles: told how many more tiles have been read.

    Raises:
        BadInput: features that are not finite, or not in the chosen dtype.
    """
    header = _header(tiles, encoder, settings, stain=stain)
    if header["status"] != SlideStatus.OK:
        return _without_features(tiles, header)
    try:
        stains = slide_stains(tiles, row, numbers=header["stain"], slides=settings.slides)
        header.update(stain_source=stains.source, reason=joined_notes(header["reason"], stains.note))
        with open_tiles(row.path, tiles.coords, header=tiles.header, slides=settings.slides) as source:
            header["read_by"] = source.how
            found = embed_tiles(
                source.read,
                tiles.coords,
                encoder,
                tile_px=header["tile_px"],
                batch_size=settings.embed.batch_size,
                workers=usable_cpus() if workers is None else workers,
                check=quality_check(header, settings.embed),
                normalize=stains.normalize,
                dtype=stored_dtype(settings.embed),
                on_tiles=on_tiles,
            )
        _check_damage(found, header, max_fraction=settings.embed.max_damaged_fraction)
        check_left_out(found, header)
    except SlideProblem as problem:
        header.update(failure(problem.status, problem.reason, step=STEP))
        return _without_features(tiles, header)
    _check_stored(found.largest, row.slide_id, settings.embed)
    return FeatureFile(
        tiles.slide_id,
        found.features,
        tiles.coords[found.kept],
        tiles.tile_labels[found.kept],
        header,
        quality_of(found, tiles),
    )


def _check_damage(found: EmbeddedTiles, header: dict[str, Any], *, max_fraction: float) -> None:
    tiles, damaged = len(found.kept), len(found.damaged)
    header["damaged_tiles"] = damaged
    header["damaged_reasons"] = list(dict.fromkeys(found.damaged))[:SHOWN_REASONS]
    if damaged > max_fraction * tiles or damaged == tiles:
        raise SlideProblem(
            SlideStatus.DAMAGED_TILES,
            f"{damaged} of {tiles} tiles cannot be read, embed.max_damaged_fraction allows "
            f"{max_fraction:.0%}; first: {'; '.join(header['damaged_reasons'])}",
        )


def _check_stored(largest: float, slide_id: str, embed: EmbedSettings) -> None:
    """Refuse features that the stored type does not hold."""
    if not math.isfinite(largest):
        raise BadInput(
            f"{slide_id}: encoder '{embed.encoder}' gives features that are not finite; "
            "check embed.weights, or set embed.precision: float32"
        )
    if largest > float(np.finfo(embed.dtype).max):
        raise BadInput(
            f"{slide_id}: encoder '{embed.encoder}' gives features up to {largest:.3g}, beyond float16; "
            "set embed.dtype: float32"
        )


def _header(
    tiles: TileFile, encoder: Encoder | None, settings: Settings, *, stain: Mapping[str, Any]
) -> dict[str, Any]:
    made_with = {name: getattr(settings, name).model_dump(mode="json") for name in ("stain", "embed")}
    return {
        **tiles.header,
        **stamp(KIND, {**tiles.header.get("settings", {}), **made_with}),
        "encoder": settings.embed.encoder,
        "encoder_settings": {**encoder.settings} if encoder else {},
        "encoder_notes": notes_of(settings),
        "weights_hash": encoder.weights_hash if encoder else "",
        "feature_dim": encoder.feature_dim if encoder else 0,
        "feature_dtype": stored_dtype(settings.embed),
        "feature_names": list(encoder.feature_names) if encoder else [],
        "stain": dict(stain),
        "stain_source": {},
        "damaged_tiles": 0,
        "damaged_reasons": [],
        "tiles_laid": len(tiles.coords),
        **dict.fromkeys(DROPPED.values(), 0),
        "quality_counts": {},
        "read_by": "",
        "inputs_hash": "",
    }


def _without_features(tiles: TileFile, header: dict[str, Any]) -> FeatureFile:
    features = np.zeros((0, header["feature_dim"]), header["feature_dtype"])
    return FeatureFile(tiles.slide_id, features, tiles.coords[:0], tiles.tile_labels[:0], header)


def _job(
    row: SlideRow,
    tiles_dir: Path,
    features_dir: Path,
    *,
    settings: Settings,
    weights: dict[str, str],
    stain: Mapping[str, Any],
) -> _Job:
    tiles = read_tiles(tiles_dir / f"{row.slide_id}.h5")
    embed = settings.embed.model_dump(mode="json", exclude={"weights", "weights_dir", "device"})
    parts = {
        "embed": {**embed, **weights},
        "background": settings.slides.background,
        "color": settings.slides.color,
        "stain": dict(stain),
        "tiles": content_hash(tiles.header),
        "coords": array_hash(tiles.coords),
        "tile_labels": array_hash(tiles.tile_labels),
    }
    expected = inputs_hash(STEP, parts)
    path = features_dir / f"{row.slide_id}.h5"
    return _Job(row, tiles, path, expected, stain, _kept(path, expected))


def _run_job(
    job: _Job,
    encoder: Encoder | None,
    settings: Settings,
    *,
    workers: int | None,
    on_tiles: Callable[[int], None],
) -> FeatureFile:
    if encoder is None:
        features = _without_features(job.tiles, _header(job.tiles, None, settings, stain=job.stain))
    else:
        _check_same_slide(job)
        features = embed_slide(
            job.tiles,
            job.row,
            encoder,
            settings=settings,
            stain=job.stain,
            workers=workers,
            on_tiles=on_tiles,
        )
    signed = features._replace(header={**features.header, "inputs_hash": job.inputs_hash})
    write_features(job.path, signed)
    return signed


def _check_same_slide(job: _Job) -> None:
    """Refuse a slide that was replaced after its tiles were laid."""
    expected = job.tiles.header.get("fingerprint")
    if job.tiles.header["status"] != SlideStatus.OK or not expected or not job.row.path.exists():
        return  # a slide that is gone ends as unreadable when it is opened
    if slide_fingerprint(job.row.path) != expected:
        raise BadInput(
            f"{job.row.path}: not the file that slide '{job.row.slide_id}' was tiled from; "
            "make its mask and tiles anew with: wsi-kd mask, wsi-kd tile"
        )


def _needs_encoder(jobs: Sequence[_Job]) -> bool:
    """Whether a job has work to do and a slide with tiles, so that all its files name the same dimension."""
    return any(job.done is None for job in jobs) and any(len(job.tiles.coords) for job in jobs)


def _kept(path: Path, expected_hash: str) -> FeatureFile | None:
    kept = kept_features(path, expected_hash)
    return kept and kept._replace(features=kept.features[:0].copy())  # frees memory
