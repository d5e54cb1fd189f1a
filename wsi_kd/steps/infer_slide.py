"""One slide from its file to its answer, by the functions of mask, tile, embed and predict."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.files import content_hash, file_hash
from wsi_kd.core.memory import hand_back_freed_memory
from wsi_kd.core.provenance import schema_version
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.prediction_record import Answer
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.pyramid import Thumbnail, read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.drawings import edited_outline
from wsi_kd.steps.embed import embed_slide
from wsi_kd.steps.infer_model import Inference, models_identity
from wsi_kd.steps.infer_result import STEP, SlideResult, score_features, slide_result
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.status import failure, inputs_hash, unnamed
from wsi_kd.steps.tile import tile_slide
from wsi_kd.tissue.polygons import KIND as MASK_KIND

HEATMAP_PX = 1200
"""Longer edge of the slide below a heatmap, in pixels, at most."""


def infer_slide(row: SlideRow, inference: Inference) -> SlideResult:
    """Take one slide from file to answer; one that cannot be scored has its status and reason.

    Raises:
        BadInput: drawings of the slide that cannot be used, or features that no model can score.
    """
    signed = slide_hash(row, inference)
    seconds: dict[str, float] = {}
    with _lap(seconds, "mask"):
        tissue = mask_slide(row, inference.settings, network=inference.network)
    with _lap(seconds, "tile"):
        tiles = tile_slide(tissue, row, inference.settings)
    with _lap(seconds, "embed"):
        stain = inference.header.get("stain", {})
        features = embed_slide(tiles, row, inference.encoder, settings=inference.settings, stain=stain)
    answer: Answer | None = None
    thumbnail: Thumbnail | None = None
    if features.header["status"] == SlideStatus.OK:
        with _lap(seconds, "score"):
            answer = score_features(features, inference.models, device=inference.device)
        try:
            with _lap(seconds, "files"):
                thumbnail = _below_heatmap(row, features, inference)
        except SlideProblem as problem:
            answer = None
            features.header.update(failure(problem.status, problem.reason, step=STEP))
    features.header["reason"] = unnamed(features.header["reason"], row)
    return slide_result(
        features,
        answer,
        models=inference.models,
        thumbnail=thumbnail,
        inputs_hash=signed,
        seconds=seconds,
    )


def slide_hash(row: SlideRow, inference: Inference) -> str:
    """Return a hash of all that the slide's answer follows from; empty where its file cannot be read.

    Of the slide it is the fingerprint, the name and what the row says of it; of the model every member of
    its header, with weights, settings and thresholds.
    """
    try:
        fingerprint = slide_fingerprint(row.path)
        annotation = file_hash(row.annotation) if row.annotation else ""
    except OSError:
        return ""
    outline = edited_outline(row, inference.settings.mask.edited_dir)
    identity = {
        "slide_id": row.slide_id,
        "slide_file": row.path.name,
        "fingerprint": fingerprint,
        "slide_mpp": row.slide_mpp,
        "annotation_sha256": annotation,
        "edited_sha256": file_hash(outline) if outline else "",
        "models": content_hash(models_identity(inference.models)),
        "mask_version": schema_version(MASK_KIND),
    }
    return inputs_hash(STEP, identity)


def _below_heatmap(row: SlideRow, features: FeatureFile, inference: Inference) -> Thumbnail:
    slide_mpp = float(features.header["slide_mpp"])
    longest_px = max(features.header["bounds"][2:])
    slides = inference.settings.slides
    with open_slide(row.path, background=slides.background) as reader:
        mpp = max(slide_mpp, slide_mpp * longest_px / HEATMAP_PX)
        return read_thumbnail(reader, slide_mpp=slide_mpp, thumbnail_mpp=mpp, color=slides.color)


@contextmanager
def _lap(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Take the time of a part; what it freed does not count in the next one's memory."""
    started = time.perf_counter()
    yield
    hand_back_freed_memory()
    seconds[name] = round(time.perf_counter() - started, 3)
