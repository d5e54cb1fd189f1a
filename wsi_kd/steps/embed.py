"""Step embed: tiles -> features by a frozen encoder, one HDF5 a slide, and the job's status table."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.energy import EnergyMeter
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.core.places import without_paths
from wsi_kd.core.progress import progress, slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.store import FeatureFile, TileFile, array_hash, read_tiles, write_features
from wsi_kd.settings.all import Settings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.steps.embedded_slides import (
    STEP,
    SlideToEmbed,
    features_header,
    features_of_slides,
    without_features,
)
from wsi_kd.steps.encoder import (
    build_encoder,
    gpu_of,
    resizing_identity,
    tell_notes,
    weights_identity,
)
from wsi_kd.steps.kept_features import kept_features
from wsi_kd.steps.stain_numbers import UNCHANGED, shared_numbers
from wsi_kd.steps.status import inputs_hash, kept_under, status_row, write_status


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
    statuses: dict[str, StatusRow] = {}
    kwh: dict[str, float | None] = {}
    tiles = sum(len(job.tiles.coords) for job in jobs if job.done is None)
    meter = EnergyMeter(None if encoder is None else gpu_of(encoder))
    with (
        progress(STEP, total=tiles, unit="tiles") as on_tiles,
        slide_progress(STEP, total=len(jobs)) as finish,
        closing(_done_and_made(jobs, encoder, settings, workers=workers, on_tiles=on_tiles)) as found,
    ):
        before = time.perf_counter()
        for slide_id, features in found:
            now = time.perf_counter()
            row = status_row(features.header, step=STEP, tiles=len(features.coords), seconds=now - before)
            statuses[slide_id], kwh[slide_id], before = row, meter.lap_kwh(), now
            finish(row)
    in_order = [statuses[job.row.slide_id] for job in jobs]
    recorded = without_paths({"embed": settings.embed.model_dump(mode="json")})
    energy = {"source": meter.source, "kwh": {job.row.slide_id: kwh[job.row.slide_id] for job in jobs}}
    write_status(status_path, in_order, {**stamp(STEP, recorded), "energy": energy})
    return in_order


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
    """Embed one slide by itself; its numbers are those that it has among others.

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
    slide = SlideToEmbed(tiles, row, stain)
    found = features_of_slides([slide], encoder, settings=settings, workers=workers, on_tiles=on_tiles)
    with closing(found):
        (only,) = found
    return only


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
    embed = settings.embed.model_dump(mode="json", exclude={"weights", "weights_dir", "device", "compile"})
    parts = {
        "embed": {**embed, **weights, **resizing_identity(settings.embed)},
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


def _done_and_made(
    jobs: Sequence[_Job],
    encoder: Encoder | None,
    settings: Settings,
    *,
    workers: int | None,
    on_tiles: Callable[[int], None],
) -> Generator[tuple[str, FeatureFile], None, None]:
    """Yield slides as their files stand: first those that a former run left, then new ones in order.

    A file is written while the next slide is embedded.
    """
    for job in jobs:
        if job.done is not None:
            yield job.row.slide_id, job.done
    todo = [job for job in jobs if job.done is None]
    made = _made(todo, encoder, settings, workers=workers, on_tiles=on_tiles)
    with ThreadPoolExecutor(1, thread_name_prefix="write-features") as writer, closing(made):
        writing: Future[tuple[str, FeatureFile]] | None = None
        for job, features in zip(todo, made, strict=True):
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_write, job, features)
        if writing is not None:
            yield writing.result()


def _made(
    jobs: Sequence[_Job],
    encoder: Encoder | None,
    settings: Settings,
    *,
    workers: int | None,
    on_tiles: Callable[[int], None],
) -> Generator[FeatureFile, None, None]:
    if encoder is not None:
        slides = (
            SlideToEmbed(job.tiles, job.row, job.stain, partial(check_same_slide, job.tiles.header, job.row))
            for job in jobs
        )
        yield from features_of_slides(slides, encoder, settings=settings, workers=workers, on_tiles=on_tiles)
        return
    for job in jobs:
        header = features_header(job.tiles, None, settings, stain=job.stain)
        yield without_features(job.tiles, header)


def _write(job: _Job, features: FeatureFile) -> tuple[str, FeatureFile]:
    """Write a slide's file; return what is still asked of it, without the features."""
    kept = kept_under(features.header, job.inputs_hash, step=STEP)
    signed = features._replace(header={**features.header, "inputs_hash": kept})
    write_features(job.path, signed)
    return job.row.slide_id, signed._replace(features=signed.features[:0].copy())


def check_same_slide(header: Mapping[str, Any], row: SlideRow) -> None:
    """Refuse a slide that was replaced after its tiles were laid.

    Args:
        header: of its tile or feature file.
        row: where it lies now; a slide that is gone ends as unreadable when it is opened.

    Raises:
        BadInput: another file than that was tiled.
    """
    expected = header.get("fingerprint")
    if header["status"] != SlideStatus.OK or not expected or not row.path.exists():
        return
    if slide_fingerprint(row.path) != expected:
        raise BadInput(
            f"{row.path}: not the file that slide '{row.slide_id}' was tiled from; "
            "make its mask and tiles anew with: wsi-kd mask, wsi-kd tile"
        )


def _needs_encoder(jobs: Sequence[_Job]) -> bool:
    """Whether a job has work to do and a slide with tiles, so that all its files name the same dimension."""
    return any(job.done is None for job in jobs) and any(len(job.tiles.coords) for job in jobs)


def _kept(path: Path, expected_hash: str) -> FeatureFile | None:
    kept = kept_features(path, expected_hash)
    return kept and kept._replace(features=kept.features[:0].copy())  # frees memory
