"""Score one slide's feature file with one checkpoint, after asking whether they belong together."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import FeatureFile
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.slide_prediction import SlidePrediction
from wsi_kd.training.checkpoint import LoadedModel

MUST_AGREE = ("encoder", "encoder_settings", "weights_hash", "feature_dim", "stain")
"""What makes features readable by a model: members of both headers, an absent one as good as an empty one."""
TILING = ("tile_px", "tile_mpp")
"""What a tile shows of the tissue; 0 where another program's file does not tell: nothing is compared then."""
SHOWN_CHARACTERS = 100


def predict_slide(loaded: LoadedModel, slide: FeatureFile, *, device: torch.device) -> SlidePrediction:
    """Score a slide; the model stands on `device`.

    Raises:
        BadInput: naming the slide: features of another encoder, other weights or another dimension, of tiles
            of another size or resolution, no tiles, or NaN.
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
        found, expected = (header.get(key) or None for header in (slide_header, model_header))
        if found != expected:
            raise BadInput(
                f"{slide_id}: the features have {key} {_short(found)}, the model was trained on "
                f"{_short(expected)}; "
                "embed the slide with the model's encoder and weights, or train anew"
            )
    _check_tiling(slide_header, model_header, slide_id=slide_id)


def _check_tiling(slide_header: Mapping[str, Any], model_header: Mapping[str, Any], *, slide_id: str) -> None:
    """Refuse tiles of another size or resolution: an encoder has one output for both and takes either."""
    settings = model_header.get("sections", {}).get("tile", {})
    for key in TILING:
        found = float(slide_header.get(key) or 0.0)
        expected = float(model_header.get(key) or settings.get(key) or 0.0)
        if found and expected and not math.isclose(found, expected, rel_tol=1e-6):
            raise BadInput(
                f"{slide_id}: the features have {key} {found:g}, the model was trained on {expected:g}; "
                "tile and embed the slide with the model's settings, or train anew"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
