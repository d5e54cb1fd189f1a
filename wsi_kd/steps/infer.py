"""Step infer: slides -> predictions in one command, by the workflow's functions and so with its numbers."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput, RunFailed, SlideProblem
from wsi_kd.core.files import file_hash, sidecar
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.core.shapes import Pixels
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.foreign_header import GIVEN_ENCODER
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.export import (
    SlideOutcome,
    without_paths,
    write_prediction_json,
    write_tiles_geojson,
)
from wsi_kd.inference.likeness import unlike_training_note
from wsi_kd.inference.predict import SlidePrediction
from wsi_kd.inference.slide import predict_slide
from wsi_kd.inference.tables import TileTable, tile_table, write_tiles_csv
from wsi_kd.report.heatmap import draw_heatmap
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.slides.pyramid import Thumbnail, read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.drawings import drawing_faults
from wsi_kd.steps.embed import embed_slide
from wsi_kd.steps.encoder import build_encoder, tell_notes
from wsi_kd.steps.mask import mask_network, mask_slide
from wsi_kd.steps.status import failure, joined_notes, status_row, write_status
from wsi_kd.steps.tile import tile_slide
from wsi_kd.tissue.segmentation_network import SegmentationNetwork
from wsi_kd.training.checkpoint import LoadedModel, load_model

STEP = "infer"
HEATMAP_PX = 1200
"""Longer edge of the slide below a heatmap, in pixels, at most."""

PREDICTION = "prediction.json"
TILES_CSV, TILES_GEOJSON, HEATMAP = "tiles.csv", "tiles.geojson", "heatmap.png"


class Inference(NamedTuple):
    """What is loaded once and serves every slide."""

    loaded: LoadedModel
    encoder: Encoder
    settings: Settings
    device: torch.device
    network: SegmentationNetwork | None
    """What finds the tissue, where the model's slides were segmented by a network."""


class ScoredSlide(NamedTuple):
    """One slide with its features, scores and thumbnail."""

    features: FeatureFile
    prediction: SlidePrediction
    thumbnail: Thumbnail


def run_infer(
    rows: Sequence[SlideRow],
    *,
    model_dir: Path,
    out_dir: Path,
    device: str = "auto",
    weights: Path | None = None,
    mask_network_file: Path | None = None,
    on_slide: Callable[[StatusRow], None] = lambda _: None,
) -> list[StatusRow]:
    """Predict slides with a trained model; encoder, tiling and thresholds come from its checkpoint.

    Every slide ends with a `prediction.json` that holds its status; those that were scored also get
    `tiles.csv`, `tiles.geojson` and `heatmap.png`. One slide is written to `out_dir` itself, several to
    `out_dir/<slide_id>/` with a table `status.csv`.

    Args:
        rows: slides; a label is not needed.
        model_dir: folder with model.safetensors and model.json.
        out_dir: where to write.
        device: auto, cpu, cuda or cuda:N, for encoder and model.
        weights: the encoder's weight file, where it lies elsewhere than at training; another file is refused.
        mask_network_file: the same of the segmentation network, where one found the tissue.
        on_slide: called with each slide's status as soon as it is written.

    Raises:
        BadInput: a model that cannot be loaded, an encoder other than the model's, or drawings with faults
            (all of them listed before the first slide).
        RunFailed: a file could not be written.
    """
    inference = load_inference(model_dir, device=device, weights=weights, network=mask_network_file)
    faults = drawing_faults(rows, inference.settings, negative_label=None)
    if faults:
        raise BadInput(f"{len(faults)} drawings cannot be used: {listed(faults)}")
    statuses = []
    for row in rows:
        folder = out_dir if len(rows) == 1 else out_dir / row.slide_id
        statuses.append(infer_slide(row, inference, folder=folder))
        on_slide(statuses[-1])
    if len(rows) != 1:
        made_with = without_paths(inference.loaded.header["sections"])
        write_status(out_dir / "status.csv", statuses, stamp("status", made_with))
    return statuses


def load_inference(
    model_dir: Path, *, device: str, weights: Path | None, network: Path | None = None
) -> Inference:
    """Load a checkpoint, the encoder that it was trained on, and the network that found the tissue, if any.

    Raises:
        BadInput: a damaged checkpoint, an unknown encoder, or weights or a network that are not those of the
            training.
    """
    loaded = load_model(model_dir)
    _refuse_given_encoder(loaded, where=model_dir)
    place = choose_device(device)
    settings = _settings(
        loaded, device=str(place), weights=weights, network=network, where=model_dir / "model.json"
    )
    embed = settings.embed
    encoder = build_encoder(embed)
    tell_notes(settings)
    _check_encoder(encoder, loaded, where=str(embed.weights or embed.encoder))
    loaded.model.to(place)
    return Inference(loaded, encoder, settings, place, _mask_network(loaded, settings))


def infer_slide(row: SlideRow, inference: Inference, *, folder: Path) -> StatusRow:
    """Take one slide from file to prediction, written to `folder`; a failed slide gets its status there."""
    started = time.perf_counter()
    clear_outputs(folder)
    tissue = mask_slide(row, inference.settings, network=inference.network)
    tiles = tile_slide(tissue, row, inference.settings)
    features = embed_slide(
        tiles,
        row,
        inference.encoder,
        settings=inference.settings,
        stain=inference.loaded.header.get("stain", {}),
    )
    scored: ScoredSlide | None = None
    if features.header["status"] == SlideStatus.OK:
        try:
            scored = _score(row, features, inference)
        except SlideProblem as problem:
            features.header.update(failure(problem.status, problem.reason, step=STEP))
    features.header["reason"] = features.header["reason"].replace(str(row.path), row.path.name)
    files = {} if scored is None else _write_scores(scored, inference, folder=folder)
    count = 0 if scored is None else len(features.coords)
    if scored is not None:
        note = unlike_training_note(scored.prediction)
        features.header["reason"] = joined_notes(features.header["reason"], note)
    status = status_row(features.header, step=STEP, tiles=count, seconds=time.perf_counter() - started)
    write_prediction_json(
        folder / PREDICTION,
        SlideOutcome(
            slide_id=row.slide_id,
            status=status.status,
            reason=status.reason,
            tiles=count,
            prediction=None if scored is None else scored.prediction,
        ),
        slide_header=features.header,
        model_header=inference.loaded.header,
        files=files,
    )
    return status


def _refuse_given_encoder(loaded: LoadedModel, *, where: Path) -> None:
    """Tell of a model that learned from another program's features: nothing here can make them of a slide."""
    name = str(loaded.header["encoder"])
    if name.startswith(GIVEN_ENCODER):
        told = name.removeprefix(GIVEN_ENCODER)
        raise BadInput(
            f"{where}: this model was trained on features that another program made (encoder: {told}), which "
            "wsi-kd cannot make from a slide; make the slide's features there and give them with: "
            "wsi-kd infer --features FILE"
        )


def _check_encoder(encoder: Encoder, loaded: LoadedModel, *, where: str) -> None:
    found = {
        "weights_hash": encoder.weights_hash,
        "feature_dim": encoder.feature_dim,
        "encoder_settings": dict(encoder.settings),
    }
    for key, value in found.items():
        if value != loaded.header[key]:
            raise BadInput(
                f"{where}: the encoder's {key} is {value}, the model was trained on {loaded.header[key]}; "
                "give the encoder weights of the training with --weights"
            )


def _mask_network(loaded: LoadedModel, settings: Settings) -> SegmentationNetwork | None:
    """Load the network that found the tissue at training; its file may have moved."""
    file, expected = settings.mask.network, loaded.header.get("network_sha256", "")
    remedy = "give the segmentation network of the training with --mask-network"
    if settings.mask.source == "network" and file is not None and not file.is_file():
        raise BadInput(f"{file}: no such file; {remedy}")
    network = mask_network(settings)
    if network is not None and network.sha256 != expected:
        raise BadInput(f"{file}: sha256 {network.sha256}, at training it was {expected}; {remedy}")
    return network


def clear_outputs(folder: Path) -> None:
    """Remove what a former run left: no old score may stand beside a new answer.

    Raises:
        RunFailed: the folder cannot be written.
    """
    try:
        for name in (PREDICTION, TILES_CSV, sidecar(Path(TILES_CSV)).name, TILES_GEOJSON, HEATMAP):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunFailed(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def _settings(
    loaded: LoadedModel, *, device: str, weights: Path | None, network: Path | None, where: Path
) -> Settings:
    sections = {name: dict(section) for name, section in loaded.header["sections"].items()}
    sections["embed"]["device"] = sections["mask"]["network_device"] = device
    if network is not None:
        sections["mask"]["network"] = str(network)
    if weights is not None:
        sections["embed"]["weights"] = str(weights)
    offline = sections["embed"].get("weights_dir")
    if offline is not None and not Path(offline).is_dir():
        sections["embed"]["weights_dir"] = None  # the training machine's; the weights' hash decides
    edited = sections["mask"].get("edited_dir")
    if edited is not None and not Path(edited).is_dir():
        sections["mask"]["edited_dir"] = None  # hand-drawn masks of the training's machine
    return parse_settings(sections, where=str(where))


def _score(row: SlideRow, features: FeatureFile, inference: Inference) -> ScoredSlide:
    prediction = predict_slide(inference.loaded, features, device=inference.device)
    slide_mpp = float(features.header["slide_mpp"])
    longest_px = max(features.header["bounds"][2:])
    with open_slide(row.path, background=inference.settings.slides.background) as reader:
        mpp = max(slide_mpp, slide_mpp * longest_px / HEATMAP_PX)
        color = inference.settings.slides.color
        thumbnail = read_thumbnail(reader, slide_mpp=slide_mpp, thumbnail_mpp=mpp, color=color)
    return ScoredSlide(features, prediction, thumbnail)


def _write_scores(scored: ScoredSlide, inference: Inference, *, folder: Path) -> dict[str, str]:
    """Write the three files beside prediction.json and return the sha256 of each."""
    header, model_header = scored.features.header, inference.loaded.header
    slide_id = scored.features.slide_id
    tiles = tile_table(
        scored.prediction,
        coords=scored.features.coords,
        tile_level0_px=float(header["tile_level0_px"]),
        tile_labels=scored.features.tile_labels,
    )
    described = {**stamp("tile_scores", without_paths(model_header["sections"])), "slide_id": slide_id}
    write_tiles_csv(folder / TILES_CSV, tiles, classes=model_header["classes"], header=described)
    write_tiles_geojson(
        folder / TILES_GEOJSON,
        tiles,
        slide_id=slide_id,
        origin=(int(header["bounds"][0]), int(header["bounds"][1])),
        classes=model_header["classes"],
    )
    _draw(folder / HEATMAP, tiles, scored.thumbnail, title=slide_id, slide_mpp=float(header["slide_mpp"]))
    return {name: file_hash(folder / name) for name in (TILES_CSV, TILES_GEOJSON, HEATMAP)}


def _draw(path: Path, tiles: TileTable, thumbnail: Thumbnail, *, title: str, slide_mpp: float) -> None:
    student = tiles.student_score
    pixels: Pixels = thumbnail.pixels
    draw_heatmap(
        path,
        pixels=pixels,
        coords=tiles.coords,
        scores=tiles.evidence_score if student is None else student,
        tile_level0_px=tiles.tile_level0_px,
        level0_px_per_px=thumbnail.level0_px_per_px,
        origin=thumbnail.origin,
        mapping="teacher evidence probability" if student is None else "student probability",
        title=title,
        slide_mpp=slide_mpp,
    )
