"""The gallery: a slide's card with its thumbnail, its heatmaps and its most telling tiles."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsi_kd.core.shapes import Pixels
from wsi_kd.inference.mappings import MappedTiles, default_mapping, tile_mapping
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.gallery_choice import Chosen, score_of, threshold_of
from wsi_kd.report.gallery_tiles import ShownTile, tile_strips
from wsi_kd.report.heatmap import render_heatmap, render_slide
from wsi_kd.report.overlay import score_map
from wsi_kd.report.page import Block, Card, Gallery, Note, Picture, Section
from wsi_kd.report.pictures import jpeg_picture
from wsi_kd.report.record import RECIPE_NAMES

SECOND_MAPPING = "attention_softmax"
HEADINGS = {True: "Surest and right", False: "Surest and wrong", None: "Surest, without a label"}


class SlideView(NamedTuple):
    """What is shown of one slide: its thumbnail, the scores of all its tiles, the pixels of a few."""

    pixels: Pixels
    level0_px_per_px: float
    origin: tuple[int, int]
    slide_mpp: float
    tiles: TileTable
    shown: tuple[ShownTile, ...]
    crops: tuple[Pixels, ...]
    """Of `shown`, in its order."""


def gallery_section(cards: Sequence[Card]) -> Section:
    """Build the gallery from its cards: right ones, wrong ones."""
    heading = "Gallery"
    if not cards:
        note = Note("No slide is shown: none was scored, or none was asked for.")
        return Section("gallery", heading, (note,))
    lead = (
        "Test slides of the first seed, farthest from their model's threshold. Colors lie where the tiles "
        "lie; overlapping tiles are averaged by area. Attention x tiles: 1 is an even spread. "
        "Single tiles are the slide's own pixels at the resolution the model saw, by the score above them."
    )
    unseen = sum(not card.pictures for card in cards)
    if unseen:
        lead += f" {unseen} of these {len(cards)} slides have no picture; each says why."
    blocks: list[Block] = [Note(lead)]
    for kind, title in HEADINGS.items():
        chosen = tuple(card for card in cards if card.right is kind)
        if chosen:
            blocks.append(Gallery(chosen, heading=title))
    if not any(card.right is False for card in cards) and any(card.right for card in cards):
        blocks.append(Note("No test slide of this model was called wrong."))
    return Section("gallery", heading, tuple(blocks))


def slide_card(chosen: Chosen, view: SlideView | None, *, note: str = "") -> Card:
    """Describe one slide; without a view there are no pictures and `note` says why."""
    row, model = chosen.row, chosen.model
    student = "no student" if row.student_probability is None else _probability(chosen, "student")
    facts = (
        ("Case", row.case_id),
        ("Student probability", student),
        ("Teacher probability", _probability(chosen, "teacher")),
        (f"Threshold ({chosen.score}, chosen on validation)", f"{threshold_of(row, chosen.score):.3f}"),
        ("Model", f"{RECIPE_NAMES.get(model.recipe, model.recipe)}, seed {model.seed}, fold {model.fold}"),
        *([("Unlike the training slides", "yes")] if row.out_of_distribution else []),
    )
    return Card(
        row.slide_id,
        _verdict(chosen),
        chosen.right,
        facts,
        () if view is None else _pictures(row.slide_id, view),
        note,
        () if view is None else tile_strips(view.shown, view.crops),
    )


def _probability(chosen: Chosen, score: str) -> str:
    value = score_of(chosen.row, score)
    return "not a finite number" if value is None else f"{value:.3f}"


def _verdict(chosen: Chosen) -> str:
    call = chosen.row.student_call if chosen.score == "student" else chosen.row.teacher_call
    if chosen.right is None:
        return f"called {call}, no label"
    return f"{'right' if chosen.right else 'wrong'}: called {call}, labeled {chosen.row.label}"


def _pictures(slide_id: str, view: SlideView) -> tuple[Picture, ...]:
    keys = (default_mapping(view.tiles), SECOND_MAPPING)
    maps = (tile_mapping(view.tiles, key) for key in keys)
    return (_slide_picture(slide_id, view), *(_heatmap(slide_id, view, mapped) for mapped in maps))


def _heatmap(slide_id: str, view: SlideView, mapped: MappedTiles) -> Picture:
    drawn = render_heatmap(
        pixels=view.pixels,
        coords=view.tiles.coords,
        mapped=mapped,
        tile_level0_px=view.tiles.tile_level0_px,
        level0_px_per_px=view.level0_px_per_px,
        origin=view.origin,
        title=slide_id,
        slide_mpp=view.slide_mpp,
    )
    name = mapped.name
    return jpeg_picture(
        drawn, alt=f"{name} of each tile over slide {slide_id}", caption=f"{name[0].upper()}{name[1:]}"
    )


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
    return jpeg_picture(drawn, alt=f"Thumbnail of slide {slide_id}", caption=caption)
