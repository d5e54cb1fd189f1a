"""Step infer on features: slides that were embedded elsewhere, or before, scored without their pixels."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.foreign import read_foreign_slide
from wsi_kd.features.foreign_folders import ForeignSlide, find_foreign, foreign_slide
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.export import SlideOutcome, without_paths, write_prediction_json, write_tiles_geojson
from wsi_kd.inference.likeness import unlike_training_note
from wsi_kd.inference.predict import SlidePrediction
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.tables import tile_table, write_tiles_csv
from wsi_kd.steps.infer import PREDICTION, STEP, TILES_CSV, TILES_GEOJSON, clear_outputs
from wsi_kd.steps.status import status_row, write_status
from wsi_kd.training.checkpoint import LoadedModel, load_model


class GivenFeatures(NamedTuple):
    """How feature files are to be read."""

    layout: str = "auto"
    encoder: str = ""
    """Name of what made them, where the files do not say."""
    slide_mpp: float | None = None


def run_infer_features(
    paths: Sequence[Path],
    *,
    model_dir: Path,
    out_dir: Path,
    device: str = "auto",
    given: GivenFeatures | None = None,
    on_slide: Callable[[StatusRow], None] = lambda _: None,
) -> list[StatusRow]:
    """Predict slides from feature files, this project's or another program's, with a trained model.

    Writes what `run_infer` writes but the heatmap, which needs the slide; `tiles.geojson` only where the
    features have positions and tile sizes. One file at a time is in memory.

    Args:
        paths: feature files, or folders of them.
        model_dir: folder with model.safetensors and model.json.
        out_dir: where to write; several slides each get a folder in it.
        device: auto, cpu, cuda or cuda:N.
        given: how the files are to be read.
        on_slide: called with each slide's status as soon as it is written.

    Raises:
        BadInput: a model that cannot be loaded, files that are missing, damaged, of another encoder than the
            model's, or two of one slide.
        RunFailed: a file could not be written.
    """
    reading = given or GivenFeatures()
    slides = list_features(paths, layout=reading.layout)
    place = choose_device(device)
    loaded = load_model(model_dir)
    loaded.model.to(place)
    statuses = []
    for slide in slides:
        started = time.perf_counter()
        folder = out_dir if len(slides) == 1 else out_dir / slide.slide_id
        clear_outputs(folder)
        features = read_foreign_slide(slide, slide_mpp=reading.slide_mpp, encoder=reading.encoder)
        row = _score(features, loaded, folder=folder, device=place)
        statuses.append(row._replace(seconds=round(time.perf_counter() - started, 3)))
        on_slide(statuses[-1])
    if len(slides) != 1:
        write_status(
            out_dir / "status.csv", statuses, stamp("status", without_paths(loaded.header["sections"]))
        )
    return statuses


def list_features(paths: Sequence[Path], *, layout: str) -> list[ForeignSlide]:
    """List the slides of files and folders.

    Raises:
        BadInput: nothing there, or one slide twice.
    """
    slides: dict[str, ForeignSlide] = {}
    for path in paths:
        found = find_foreign(path, layout).slides.values() if path.is_dir() else [foreign_slide(path, layout)]
        for slide in found:
            if slide.slide_id in slides:
                first = slides[slide.slide_id].path
                raise BadInput(f"two files of slide '{slide.slide_id}': {first} and {slide.path}; give one")
            slides[slide.slide_id] = slide
    return list(slides.values())


def _score(features: FeatureFile, loaded: LoadedModel, *, folder: Path, device: torch.device) -> StatusRow:
    prediction: SlidePrediction | None = None
    files: dict[str, str] = {}
    if features.header["status"] == SlideStatus.OK:
        prediction = predict_slide(loaded, features, device=device)
        files = _write_tiles(features, prediction, loaded, folder=folder)
        features.header["reason"] = unlike_training_note(prediction)
    count = 0 if prediction is None else len(features.coords)
    status = status_row(features.header, step=STEP, tiles=count, seconds=0.0)
    write_prediction_json(
        folder / PREDICTION,
        SlideOutcome(features.slide_id, status.status, status.reason, tiles=count, prediction=prediction),
        slide_header=features.header,
        model_header=loaded.header,
        files=files,
    )
    return status


def _write_tiles(
    features: FeatureFile, prediction: SlidePrediction, loaded: LoadedModel, *, folder: Path
) -> dict[str, str]:
    header, classes = features.header, loaded.header["classes"]
    edge = float(header["tile_level0_px"])
    tiles = tile_table(
        prediction, coords=features.coords, tile_level0_px=edge, tile_labels=features.tile_labels
    )
    described = {
        **stamp("tile_scores", without_paths(loaded.header["sections"])),
        "slide_id": features.slide_id,
    }
    write_tiles_csv(folder / TILES_CSV, tiles, classes=classes, header=described)
    written = [TILES_CSV]
    if edge > 0 and header.get("coords_given", True):
        x, y = (int(value) for value in header["bounds"][:2])
        write_tiles_geojson(
            folder / TILES_GEOJSON, tiles, slide_id=features.slide_id, origin=(x, y), classes=classes
        )
        written.append(TILES_GEOJSON)
    return {name: file_hash(folder / name) for name in written}
