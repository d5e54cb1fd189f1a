"""What a heatmap is drawn from: a slide's tile scores, its frame, its file, and the model that scored it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.bags.slide_files import slide_id_fault
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json, sidecar
from wsi_kd.features.store import read_header
from wsi_kd.steps.known_slides import Sources, known_slides
from wsi_kd.steps.viewed_answers import PREDICTION, TILES, prediction_files, view_answers
from wsi_kd.steps.viewed_run import is_run, view_run
from wsi_kd.viewer.record import ModelKey, Viewed, ViewedSlide

FOLDER: Final = "heatmaps"
FRAMES: Final = ("tiles", "features")
"""Folders of a run whose files know a slide's frame; the small ones first."""
TILE_SCORE: Final = "student_max"
"""Its threshold is one on single tiles: max pooling calls a slide positive where a tile reaches it."""
LISTED: Final = 12


class Drawn(NamedTuple):
    """One slide as one model scored it."""

    slide_id: str
    model: str
    tiles: Path
    """Table of tile scores."""
    path: Path | None
    """The slide's file, where anybody said where it is."""
    header: Mapping[str, Any]
    """Facts of the slide: slide_mpp, bounds, fingerprint, coords_given."""
    threshold: Mapping[str, Any]
    """The model's threshold on single tiles: value (None where it has none), rule, chosen_on."""
    folder: Path
    """Below the output folder."""
    problem: str = ""
    """Why frame or threshold are not known: nothing can be drawn."""


class Collected(NamedTuple):
    """Every slide that is drawn, and what they share."""

    viewed: Viewed
    slides: tuple[Drawn, ...]
    out: Path
    """Where heatmaps go unless told otherwise."""


def collect_drawn(target: Path, sources: Sources, *, slide_ids: Sequence[str], model: str) -> Collected:
    """Find the tile scores in a run's folder or in one that `infer` wrote.

    Args:
        target: the folder.
        sources: where slides are.
        slide_ids: which; none: all that have tile scores.
        model: of a run `<recipe>`, `<recipe>/seed<s>` or `<recipe>/seed<s>/fold<f>`; empty: the only recipe
            with a student (else the only recipe), and its first seed.

    Raises:
        BadInput: no scores there, unknown slides or models, several recipes to choose from, damaged files.
    """
    if prediction_files(target):
        viewed = view_answers(target, sheet=known_slides(sources))
        chosen = _wanted(viewed.slides, slide_ids, where=target)
        slides = [_of_answer(target, slide, slide.tiles[key]) for slide in chosen for key in slide.tiles]
    elif is_run(target):
        viewed = view_run(target, sheet=known_slides(sources), title=target.name)
        keys = _models(viewed, model, where=target)
        chosen = _wanted(
            [slide for slide in viewed.slides if keys & slide.tiles.keys()], slide_ids, where=target
        )
        slides = [_of_run(target, slide, key) for slide in chosen for key in slide.tiles if key in keys]
    else:
        raise BadInput(
            f"{target}: no tile scores; expected a run's results folder or what wsi-kd infer wrote"
        )
    if len(slides) == 1 and len(sources.slides) == 1:
        slides = [slides[0]._replace(path=sources.slides[0])]
    return Collected(viewed, tuple(slides), target / FOLDER)


def _wanted(slides: Sequence[ViewedSlide], slide_ids: Sequence[str], *, where: Path) -> list[ViewedSlide]:
    known: dict[str, ViewedSlide] = {}
    for slide in slides:
        if not slide.tiles:
            continue
        if fault := slide_id_fault(slide.slide_id):  # it names the folder that is written
            raise BadInput(f"{where}: the slide id {slide.slide_id!r} {fault}; no wsi-kd gave it that name")
        if slide.slide_id in known:
            raise BadInput(f"{where}: two answers on slide {slide.slide_id}; draw them in a folder each")
        known[slide.slide_id] = slide
    unknown = [slide_id for slide_id in slide_ids if slide_id not in known]
    if unknown or not known:
        what = f"no tile scores of {listed(unknown, limit=LISTED)}" if unknown else "no tile scores"
        held = f"; it holds those of {listed(known, limit=LISTED)}" if known else ""
        raise BadInput(f"{where}: {what}{held}; a run has them of the test slides, made by wsi-kd predict")
    return [known[slide_id] for slide_id in dict.fromkeys(slide_ids or known)]


def _models(viewed: Viewed, model: str, *, where: Path) -> set[str]:
    keys = [key.key for key in viewed.models]
    if not keys:
        raise BadInput(f"{where}: no predictions; make them with: wsi-kd predict")
    found = {key for key in keys if f"{key}/".startswith(f"{model.strip('/')}/")} if model else _usual(viewed)
    if not found:
        raise BadInput(f"--model {model}: none of the run's: {listed(keys, limit=LISTED)}")
    return found


def _usual(viewed: Viewed) -> set[str]:
    """Choose a recipe with a student where only one has it, and the first seed."""
    answers = [answer for slide in viewed.slides for answer in slide.answers]
    with_student = {answer.model for answer in answers if answer.student is not None}
    models: list[ModelKey] = [key for key in viewed.models if key.key in with_student] or list(viewed.models)
    recipes = dict.fromkeys(key.recipe for key in models)
    if len(recipes) > 1:
        raise BadInput(
            f"several recipes scored tiles; choose one: {', '.join(f'--model {r}' for r in recipes)}"
        )
    seed = min(key.seed or 0 for key in models)
    return {key.key for key in models if (key.seed or 0) == seed}


def _of_run(root: Path, slide: ViewedSlide, key: str) -> Drawn:
    tiles, folder = slide.tiles[key], Path(*key.split("/"), slide.slide_id)
    frames = [root / name / f"{slide.slide_id}.h5" for name in FRAMES]
    try:
        header = read_header(next((path for path in frames if path.is_file()), frames[0]))
        told = read_json(sidecar(tiles), remake="wsi-kd predict")
    except BadInput as error:  # of this slide only: the others are drawn
        return Drawn(slide.slide_id, key, tiles, slide.path, {}, {}, folder, problem=str(error))
    threshold = {
        "value": told.get("thresholds", {}).get(TILE_SCORE),
        "rule": told.get("threshold_rule", ""),
        "chosen_on": told.get("threshold_split", ""),
    }
    return Drawn(slide.slide_id, key, tiles, slide.path, header, threshold, folder)


def _of_answer(target: Path, slide: ViewedSlide, tiles: Path) -> Drawn:
    record = read_json(tiles.parent / PREDICTION, remake="wsi-kd infer")
    threshold = record["thresholds"].get(TILE_SCORE, {"value": None, "rule": "", "chosen_on": ""})
    folder = Path() if tiles == target / TILES else Path(slide.slide_id)
    model = next(iter(slide.tiles))
    return Drawn(slide.slide_id, model, tiles, slide.path, record["slide"], threshold, folder)
