"""Score one slide's feature file with one checkpoint, after asking whether they belong together."""

from collections.abc import Mapping
from typing import Any

import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.predict import SlidePrediction, predict_bag
from wsi_kd.training.checkpoint import LoadedModel

MUST_AGREE = ("encoder", "encoder_settings", "weights_hash", "feature_dim")
"""What makes features readable by a model: members of both headers."""


def predict_slide(loaded: LoadedModel, slide: FeatureFile, *, device: torch.device) -> SlidePrediction:
    """Score a slide; the model stands on `device`.

    Raises:
        BadInput: naming the slide: features of another encoder, other weights or another dimension, no tiles,
            or NaN.
    """
    check_features(slide.header, loaded.header, slide_id=slide.slide_id)
    try:
        return predict_bag(
            loaded.model,
            slide.features,
            student_pooling=loaded.header["student_pooling"],
            top_k=loaded.header["top_k"],
            device=device,
        )
    except BadInput as error:
        raise BadInput(f"{slide.slide_id}: {error}") from None


def check_features(
    slide_header: Mapping[str, Any], model_header: Mapping[str, Any], *, slide_id: str
) -> None:
    """Refuse features that the model was not trained on.

    Raises:
        BadInput: what differs, and the remedy.
    """
    for key in MUST_AGREE:
        found, expected = slide_header.get(key), model_header.get(key)
        if found != expected:
            raise BadInput(
                f"{slide_id}: the features have {key} {found!r}, the model was trained on {expected!r}; "
                "embed the slide with the model's encoder and weights, or train anew"
            )
