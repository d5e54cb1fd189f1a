"""The gallery: which slides are shown, and a slide's card with its thumbnail and heatmaps."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsi_kd.core.shapes import Pixels
from wsi_kd.inference.attention import attention_times_tiles
from wsi_kd.inference.tables import PredictionRow, TileTable
from wsi_kd.report.heatmap import render_heatmap, render_slide, score_map
from wsi_kd.report.page import Card, Gallery, Note, Picture, Section
from wsi_kd.report.record import RECIPE_NAMES, ModelRun
from wsi_kd.report.scores import score_of, threshold_of

JPEG_QUALITY = 85


class Chosen(NamedTuple):
    """One slide of the gallery and the model that tested it."""

    model: ModelRun
    row: PredictionRow
    score: str
    """teacher or student: the score that its confidence was judged by."""
    right: bool


class SlideView(NamedTuple):
    """A slide's thumbnail and tile scores."""

    pixels: Pixels
    level0_px_per_px: float
    origin: tuple[int, int]
    slide_mpp: float
    tiles: TileTable


def gallery_section(cards: Sequence[Card]) -> Section:
    """Build the gallery from its cards."""
    heading = "Gallery: surest right and surest wrong"
    if not cards:
        return Section(
            "gallery", heading, (Note("No slide is shown: none was scored, or none was asked for."),)
        )
    lead = (
        "Test slides of the first seed, farthest from their model's threshold. Colors lie where the tiles "
        "lie; overlapping tiles are averaged by area. Attention x tiles: 1 is what an even spread would give."
    )
    return Section("gallery", heading, (Note(lead), Gallery(tuple(cards))))


def choose_slides(models: Sequence[ModelRun], *, count: int, negative: str) -> list[Chosen]:
    """Choose `count` slides to show: half the surest right, half the surest wrong, of one recipe and seed.

    The recipe is the last one trained with a student, else the last one. Where one kind is short, the other
    fills up. Sureness is the distance from the threshold, as a share of the way to 0 or 1.
    """
    if not models:
        return []
    with_student = [model for model in models if _has_student(model)]
    recipe = (with_student or list(models))[-1].recipe
    seed = min(model.seed for model in models if model.recipe == recipe)
    score = "student" if with_student else "teacher"
    chosen = [
        Chosen(model, row, score, right=(row.label != negative) == _called(row, score))
        for model in models
        if (model.recipe, model.seed) == (recipe, seed)
        for row in model.test
    ]
    ordered = sorted(chosen, key=lambda one: (-_sureness(one.row, score), one.row.slide_id))
    right, wrong = ([one for one in ordered if one.right == kind] for kind in (True, False))
    wrong_count = max(min(len(wrong), count // 2), count - len(right))
    return right[: count - min(wrong_count, len(wrong))] + wrong[:wrong_count]


def slide_card(chosen: Chosen, view: SlideView | None, *, note: str = "") -> Card:
    """Describe one slide; without a view there are no pictures and `note` says why."""
    row, model = chosen.row, chosen.model
    call = row.student_call if chosen.score == "student" else row.teacher_call
    verdict = f"{'right' if chosen.right else 'wrong'}: called {call}, labeled {row.label}"
    student = "no student" if row.student_probability is None else f"{row.student_probability:.3f}"
    facts = (
        ("Case", row.case_id),
        ("Student probability", student),
        ("Teacher probability", f"{row.teacher_probability:.3f}"),
        (f"Threshold ({chosen.score}, chosen on validation)", f"{threshold_of(row, chosen.score):.3f}"),
        ("Model", f"{RECIPE_NAMES.get(model.recipe, model.recipe)}, seed {model.seed}, fold {model.fold}"),
    )
    pictures = () if view is None else _pictures(row.slide_id, view)
    return Card(row.slide_id, verdict, chosen.right, facts, pictures, note)


def _pictures(slide_id: str, view: SlideView) -> tuple[Picture, ...]:
    tiles = view.tiles
    attention = ("attention x tiles (softmax)", attention_times_tiles(tiles.attention))
    if tiles.student_score is None:
        maps = (("teacher evidence probability", tiles.evidence_score), attention)
    else:
        maps = (("student probability", tiles.student_score), attention)
    drawn = [
        _picture(
            render_heatmap(
                pixels=view.pixels,
                coords=tiles.coords,
                scores=scores,
                tile_level0_px=tiles.tile_level0_px,
                level0_px_per_px=view.level0_px_per_px,
                origin=view.origin,
                mapping=mapping,
                title=slide_id,
                slide_mpp=view.slide_mpp,
            ),
            alt=f"{mapping} of each tile over slide {slide_id}",
            caption=f"{mapping[0].upper()}{mapping[1:]}",
        )
        for mapping, scores in maps
    ]
    return (_slide_picture(slide_id, view), *drawn)


def _slide_picture(slide_id: str, view: SlideView) -> Picture:
    """Draw the thumbnail; tiles labeled positive are outlined."""
    positive = view.tiles.tile_labels == 1
    covered = score_map(
        view.tiles.coords,
        np.where(positive, 1.0, np.nan),
        tile_level0_px=view.tiles.tile_level0_px,
        level0_px_per_px=view.level0_px_per_px,
        origin=view.origin,
        shape=(view.pixels.shape[0], view.pixels.shape[1]),
    )
    drawn = render_slide(
        view.pixels,
        title=slide_id,
        um_per_px=view.slide_mpp * view.level0_px_per_px,
        outline=np.isfinite(covered),
    )
    caption = "Slide; outlined: tiles labeled positive" if positive.any() else "Slide"
    return _picture(drawn, alt=f"Thumbnail of slide {slide_id}", caption=caption)


def _picture(pixels: Pixels, *, alt: str, caption: str) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return Picture(f"data:image/jpeg;base64,{encoded}", alt, caption, width_px=width, height_px=height)


def _has_student(model: ModelRun) -> bool:
    return any(row.student_probability is not None for row in model.test)


def _called(row: PredictionRow, score: str) -> bool:
    probability = score_of(row, score)
    return probability is not None and probability >= threshold_of(row, score)


def _sureness(row: PredictionRow, score: str) -> float:
    probability, threshold = score_of(row, score) or 0.0, threshold_of(row, score)
    room = 1.0 - threshold if probability >= threshold else threshold
    return abs(probability - threshold) / room if room > 0 else 0.0
