"""Step infer on features: slides that were embedded elsewhere, or before, scored without their pixels."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from wsi_kd.bags.slide_files import told_name
from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.foreign import UnknownResolution, read_foreign_slide
from wsi_kd.features.foreign_folders import ForeignSlide, find_foreign, foreign_slide
from wsi_kd.features.store import FeatureFile, array_hash
from wsi_kd.inference.prediction_record import Answer
from wsi_kd.steps.infer_batch import Batch, Job, OnSlide, as_folders, ignore, run_jobs
from wsi_kd.steps.infer_model import load_models, models_identity
from wsi_kd.steps.infer_result import STEP, SlideResult, score_features, slide_result
from wsi_kd.steps.status import failure, inputs_hash
from wsi_kd.training.checkpoint import LoadedModel


class GivenFeatures(NamedTuple):
    """How feature files are to be read."""

    layout: str = "auto"
    encoder: str = ""
    """Name of what made them, where the files do not say."""
    slide_mpp: float | None = None


def run_infer_features(
    paths: Sequence[Path],
    *,
    model_dir: Path | Sequence[Path],
    out_dir: Path,
    in_folders: bool | None = None,
    device: str = "auto",
    given: GivenFeatures | None = None,
    on_slide: OnSlide = ignore,
) -> list[StatusRow]:
    """Predict slides from feature files, this project's or another program's, with a trained model.

    Writes what `run_infer` writes but the heatmap, which needs the slide; `tiles.geojson` only where the
    features have positions and tile sizes. One file at a time is in memory.

    Args:
        paths: feature files, or folders of them.
        model_dir: folder with model.safetensors and model.json, or several: an ensemble.
        out_dir: where to write.
        in_folders: each slide in a folder of `out_dir`, with a table; default: where there are several.
        device: auto, cpu, cuda or cuda:N.
        given: how the files are to be read.
        on_slide: called with each slide's status as soon as it is written.

    Raises:
        BadInput: a model that cannot be loaded, files that are missing, of another encoder than the model's,
            in um of an unknown resolution, or two of one slide. A damaged file is a slide that failed.
        RunFailed: a file could not be written.
    """
    reading = given or GivenFeatures()
    slides = list_features(paths, layout=reading.layout)
    place = choose_device(device)
    models = load_models(as_folders(model_dir), device=place)
    jobs = [Job(slide.slide_id, partial(_infer, slide, reading, models, device=place)) for slide in slides]
    separate = len(slides) != 1 if in_folders is None else in_folders
    batch = Batch(out_dir, separate, on_slide=on_slide)
    return run_jobs(jobs, batch, models=models)


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


def _infer(
    slide: ForeignSlide, given: GivenFeatures, models: Sequence[LoadedModel], *, device: torch.device
) -> SlideResult:
    started = time.perf_counter()
    try:
        features = read_foreign_slide(slide, slide_mpp=given.slide_mpp, encoder=given.encoder)
        signed = _features_hash(features, models)
    except UnknownResolution:
        raise
    except BadInput as error:
        features, signed = _unreadable(slide, str(error)), ""
    read = time.perf_counter()
    answer: Answer | None = None
    if features.header["status"] == SlideStatus.OK:
        answer = score_features(features, models, device=device)
    seconds = {"embed": read - started, "score": time.perf_counter() - read}
    return slide_result(
        features,
        answer,
        models=models,
        thumbnail=None,
        inputs_hash=signed,
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def _unreadable(slide: ForeignSlide, reason: str) -> FeatureFile:
    """Return what is known of a slide whose file is damaged: why; the other slides go on."""
    told = reason.replace(str(slide.path), told_name(slide.slide_id, slide.path))
    header = {
        "slide_id": slide.slide_id,
        "slide_file": told_name(slide.slide_id, slide.path),
        "slide_mpp": 0.0,
        "mpp_source": "",
        "tissue_mm2": 0.0,
        **failure(SlideStatus.UNREADABLE, told, step=STEP),
    }
    nothing = np.zeros((0, 0), np.float32)
    return FeatureFile(slide.slide_id, nothing, np.zeros((0, 2), np.int64), np.zeros(0, np.int8), header)


def _features_hash(features: FeatureFile, models: Sequence[LoadedModel]) -> str:
    identity = {
        "slide_id": features.slide_id,
        "features": array_hash(features.features),
        "coords": array_hash(features.coords),
        "slide_mpp": features.header["slide_mpp"],
        "models": content_hash(models_identity(models)),
    }
    return inputs_hash(STEP, identity)
