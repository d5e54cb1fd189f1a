"""Part of step check-precision: the models whose answers may move, and by how much they do."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.features.precision_gate import least_cosine, tile_cosines
from wsi_kd.inference.logit_gate import Encoded, SlideChange, logit_changes
from wsi_kd.inference.predict import slide_logits
from wsi_kd.inference.slide import check_features
from wsi_kd.inference.slide_prediction import SlideLogits
from wsi_kd.steps.precision_slides import PickedSlide
from wsi_kd.training.checkpoint import LoadedModel, load_model

Features = Float32[np.ndarray, "tiles features"]


class CheckedModel(NamedTuple):
    """A model that scores the slides, on the device that it computes on."""

    name: str
    """Recipe, seed and fold as its folder in a run is called."""
    loaded: LoadedModel
    in_run: bool
    """Whether it is the run's own of that name."""
    device: torch.device


class EncodedSlide(NamedTuple):
    """A slide's picked tiles, encoded anew."""

    slide: PickedSlide
    exact: Features
    """In float32, not compiled."""
    found: Features
    """As asked."""
    expected: Features | None
    """Which of the two the feature file should hold; None: neither."""


def load_checked(
    model_dirs: Sequence[Path], models_dir: Path, *, classes: Sequence[str], device: torch.device
) -> list[CheckedModel]:
    """Load models of one fold.

    Args:
        model_dirs: their folders.
        models_dir: folder of the run's models.
        classes: those of the manifest, in order.
        device: where they are to score.

    Raises:
        BadInput: none at all, a damaged one, models of several folds, or of other classes.
    """
    if not model_dirs:
        raise BadInput(f"{models_dir}: no model of this seed and fold; train one with: wsi-kd train")
    models: list[CheckedModel] = []
    for folder in model_dirs:
        loaded = load_model(folder)
        header = loaded.header
        if list(header["classes"]) != list(classes):
            raise BadInput(
                f"{folder}: trained on the classes {list(header['classes'])}, the manifest has "
                f"{list(classes)}; give the run that it was trained in"
            )
        if models and header["fold"] != (first := models[0].loaded.header["fold"]):
            raise BadInput(
                f"{folder}: of fold {header['fold']}, {model_dirs[0]} is of fold {first}: their test slides "
                "differ; give models of one fold"
            )
        name = f"{header['recipe']}/seed{header['seed']}/fold{header['fold']}"
        loaded.model.to(device)
        in_run = (models_dir / name).resolve() == folder.resolve()
        models.append(CheckedModel(name, loaded, in_run, device))
    return models


def check_models_fit(slides: Sequence[PickedSlide], models: Sequence[CheckedModel]) -> None:
    """Refuse feature files that a model was not trained on.

    Raises:
        BadInput: naming the slide and what differs.
    """
    for slide in slides:
        for model in models:
            check_features(slide.stored.header, model.loaded.header, slide_id=slide.row.slide_id)


def slide_change(encoded: EncodedSlide, models: Sequence[CheckedModel]) -> SlideChange:
    """Compare a slide's features, and what every model says of them."""
    exact, found, stored = encoded.exact, encoded.found, encoded.slide.stored.features
    rounded = exact.astype(stored.dtype)
    logits = [
        change
        for model in models
        for change in logit_changes(
            model.name,
            Encoded(*(_logits(model, features) for features in (exact, found, rounded, stored))),
            classes=model.loaded.header["classes"],
        )
    ]
    stored_cosine = None
    if encoded.expected is not None:
        expected = encoded.expected.astype(stored.dtype).astype(np.float32)
        stored_cosine = least_cosine(expected, stored.astype(np.float32))
    cosines = tile_cosines(exact, found)
    return SlideChange(
        encoded.slide.row.slide_id,
        tiles=len(stored),
        least_cosine=float(cosines.min(initial=1.0)),
        mean_cosine=float(cosines.mean()),
        stored_cosine=stored_cosine,
        logits=tuple(logits),
    )


def _logits(model: CheckedModel, features: FeatureArray) -> SlideLogits:
    header = model.loaded.header
    return slide_logits(
        model.loaded.model,
        features,
        student_pooling=header["student_pooling"],
        top_k=header["top_k"],
        device=model.device,
    )
