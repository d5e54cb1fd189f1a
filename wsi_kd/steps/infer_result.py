"""What `infer` has to say of one slide, and the files that it becomes."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from wsi_kd.core.errors import RunFailed
from wsi_kd.core.files import file_hash, publish_json, read_json, sidecar, unwritable_folder
from wsi_kd.core.provenance import check_schema, stamp
from wsi_kd.core.records import StatusRow
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.ensemble import combine
from wsi_kd.inference.export import write_tiles_geojson
from wsi_kd.inference.likeness import limit_of, out_of_distribution_note, out_of_distribution_record
from wsi_kd.inference.mappings import default_mapping, tile_mapping
from wsi_kd.inference.prediction_record import Answer, Outcome, prediction_record
from wsi_kd.inference.prediction_schema import (
    KIND,
    OutOfDistributionRecord,
    PredictionRecord,
    SecondsRecord,
)
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.tables import TileTable, tile_table, write_tiles_csv
from wsi_kd.report.heatmap import draw_heatmap
from wsi_kd.slides.pyramid import Thumbnail
from wsi_kd.steps.status import joined_notes, status_row
from wsi_kd.training.checkpoint import LoadedModel

STEP = "infer"
REMAKE = "wsi-kd infer"
PREDICTION = "prediction.json"
TILES_CSV, TILES_GEOJSON, HEATMAP = "tiles.csv", "tiles.geojson", "heatmap.png"


class SlideResult(NamedTuple):
    """One slide's answer with its tiles, in memory."""

    status: StatusRow
    record: PredictionRecord
    """The members of prediction.json, before the files beside it are written."""
    tiles: TileTable | None
    """None for a slide that failed."""
    thumbnail: Thumbnail | None
    """What the heatmap is drawn over; None for a failed slide and for features without their slide."""

    @property
    def slide_id(self) -> str:
        """Name of the slide."""
        return self.status.slide_id

    @property
    def probabilities(self) -> dict[str, dict[str, float]]:
        """By score (teacher, student, student_max, student_topk) and class; empty for a failed slide."""
        return self.record["probabilities"]

    @property
    def calls(self) -> dict[str, str]:
        """Class by score, at the threshold."""
        return self.record["calls"]

    def write(self, folder: Path) -> StatusRow:
        """Write what `wsi-kd infer` writes: prediction.json last, so that it vouches for the files beside it.

        Where it breaks off, nothing of this slide stays behind.

        Returns:
            The slide's status, with the seconds of writing.

        Raises:
            RunFailed: a file could not be written.
        """
        started = time.perf_counter()
        clear_outputs(folder)
        try:
            files = {name: file_hash(folder / name) for name in _write_tiles(self, folder)}
            written = round(time.perf_counter() - started, 3)
            seconds: Any = {**self.record["seconds"], "files": written}
            publish_json(folder / PREDICTION, {**self.record, "files": files, "seconds": seconds})
        except BaseException as error:
            with suppress(RunFailed):  # what is told is why it broke off
                clear_outputs(folder)
            if isinstance(error, FileNotFoundError):
                raise RunFailed(
                    f"{error.filename}: vanished while the slide was written; one process a folder"
                ) from None
            raise
        return self.status._replace(seconds=round(self.status.seconds + written, 3))


def slide_result(
    features: FeatureFile,
    answer: Answer | None,
    *,
    models: Sequence[LoadedModel],
    thumbnail: Thumbnail | None,
    inputs_hash: str,
    seconds: Mapping[str, float],
) -> SlideResult:
    """Put together what is known of a slide.

    Args:
        features: the slide's features; of a failed slide none, its status in the header.
        answer: what the models say; None for a failed slide.
        models: those models.
        thumbnail: the slide below the heatmap.
        inputs_hash: of all that the answer follows from.
        seconds: what the steps took, by step.
    """
    header = features.header
    tiles = None
    if answer is not None:
        header = {**header, "reason": joined_notes(header["reason"], answer.note)}
        tiles = tile_table(
            answer.prediction,
            coords=features.coords,
            tile_level0_px=float(header["tile_level0_px"]),
            tile_labels=features.tile_labels,
        )
    count = 0 if tiles is None else len(tiles.coords)
    status = status_row(header, step=STEP, tiles=count, seconds=sum(seconds.values()))
    laps: Any = {**dict.fromkeys(SecondsRecord.__annotations__, 0.0), **seconds}
    record = prediction_record(
        Outcome(status, answer, inputs_hash, laps),
        slide_header=header,
        model_headers=[loaded.header for loaded in models],
    )
    return SlideResult(status, record, tiles, thumbnail)


def score_features(features: FeatureFile, models: Sequence[LoadedModel], *, device: torch.device) -> Answer:
    """Score a slide by one model, or by several: then their mean, and how far they disagree.

    Raises:
        BadInput: naming the slide: features of another encoder, no tiles, or NaN.
    """
    predictions = [predict_slide(loaded, features, device=device) for loaded in models]
    found = [
        (prediction.feature_distance, limit_of(loaded.header))
        for prediction, loaded in zip(predictions, models, strict=True)
    ]
    # The middle one of the models, by how close to its limit: it is flagged where at least half of them are.
    distance, limit = sorted(found, key=lambda pair: pair[0] / pair[1].limit)[len(found) // 2]
    likeness = cast("OutOfDistributionRecord", out_of_distribution_record(distance, limit))
    note = out_of_distribution_note(distance, limit)
    if len(predictions) == 1:
        return Answer(predictions[0], {}, likeness, note)
    together = combine(predictions)
    spread: dict[str, Any] = {score: values._asdict() for score, values in together.spread.items()}
    return Answer(together.mean, spread, likeness, note)


def clear_outputs(folder: Path) -> None:
    """Remove what a former run left: no old score may stand beside a new answer.

    Raises:
        RunFailed: the folder cannot be written.
        BadInput: it is a file.
    """
    try:
        for name in (PREDICTION, TILES_CSV, sidecar(Path(TILES_CSV)).name, TILES_GEOJSON, HEATMAP):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable_folder(folder, error) from None


def read_prediction(path: Path) -> PredictionRecord:
    """Read a prediction.json, checked against its own hash.

    Raises:
        BadInput: absent, damaged, or of another version.
    """
    record = read_json(path, remake=REMAKE)
    check_schema(record, KIND, where=path, remake=REMAKE)
    return cast("PredictionRecord", record)


def status_of(record: PredictionRecord) -> StatusRow:
    """Return the line of a status table that a record tells."""
    header = {**record["slide"], "slide_id": record["slide_id"], "status": record["status"]}
    found = {"tissue_mm2": 0.0, "slide_mpp": 0.0, "mpp_source": "", **header, "reason": record["reason"]}
    seconds = sum(cast("dict[str, float]", record["seconds"]).values())
    return status_row(found, step=record["step"], tiles=record["tiles"], seconds=seconds)


def _write_tiles(result: SlideResult, folder: Path) -> list[str]:
    """Write what stands beside prediction.json and return the names."""
    tiles, record = result.tiles, result.record
    if tiles is None:
        return []
    classes, slide_id = record["classes"], result.slide_id
    described = {**stamp("tile_scores", record["settings"]), "slide_id": slide_id}
    write_tiles_csv(folder / TILES_CSV, tiles, classes=classes, header=described)
    written = [TILES_CSV]
    x, y = record["slide"]["bounds"][:2]
    if tiles.tile_level0_px > 0 and record["slide"].get("coords_given", True):
        path = folder / TILES_GEOJSON
        write_tiles_geojson(path, tiles, slide_id=slide_id, origin=(x, y), classes=classes)
        written.append(TILES_GEOJSON)
    if result.thumbnail is not None:
        _draw(folder / HEATMAP, tiles, result.thumbnail, title=slide_id, record=record)
        written.append(HEATMAP)
    return written


def _draw(
    path: Path, tiles: TileTable, thumbnail: Thumbnail, *, title: str, record: PredictionRecord
) -> None:
    draw_heatmap(
        path,
        pixels=thumbnail.pixels,
        coords=tiles.coords,
        mapped=tile_mapping(tiles, default_mapping(tiles)),
        tile_level0_px=tiles.tile_level0_px,
        level0_px_per_px=thumbnail.level0_px_per_px,
        origin=thumbnail.origin,
        title=title,
        slide_mpp=record["slide"]["slide_mpp"],
    )
