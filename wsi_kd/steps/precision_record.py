"""Part of step check-precision: what `precision.json` holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wsi_kd.core.places import without_paths
from wsi_kd.core.provenance import stamp
from wsi_kd.features.precision_gate import LEAST_COSINE
from wsi_kd.inference.logit_gate import LARGEST_CHANGE, LogitChange, SlideChange, Verdict

if TYPE_CHECKING:  # verify asks this file for names alone, and loads no network for it
    from wsi_kd.steps.precision_models import CheckedModel
    from wsi_kd.steps.precision_slides import PickedSlide

PRECISION: Final = Path("evaluation") / "precision.json"
"""Below a run's folder."""
KIND: Final = "precision"
REMAKE: Final = "wsi-kd check-precision"


class How(NamedTuple):
    """How tiles were encoded to be held against float32."""

    dtype: str
    compiled: bool
    device: str
    """cpu, or the GPU's name."""

    def __str__(self) -> str:
        """Tell it in words."""
        return f"{self.dtype}{', compiled,' if self.compiled else ''} on {self.device}"


def precision_record(
    slides: "Sequence[tuple[PickedSlide, SlideChange]]",
    verdict: Verdict,
    *,
    models: "Sequence[CheckedModel]",
    how: How,
    settings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the file's content as JSON values; its members are described in docs/outputs.md."""
    return {
        **stamp(KIND, without_paths(settings)),
        **how._asdict(),
        "limits": {"least_cosine": LEAST_COSINE, "largest_change": LARGEST_CHANGE},
        "passed": not verdict.fault,
        "fault": verdict.fault,
        "least_cosine": verdict.least_cosine,
        "least_stored_cosine": verdict.least_stored_cosine,
        "largest_change": verdict.largest_change,
        "largest_rounding_change": verdict.largest_rounding_change,
        "largest_stored_change": verdict.largest_stored_change,
        "models": [_model(model) for model in models],
        "slides": [_slide(slide, change) for slide, change in slides],
    }


def _model(model: "CheckedModel") -> dict[str, Any]:
    header = model.loaded.header
    return {"model": model.name, "in_run": model.in_run, "weights_sha256": header["weights_sha256"]}


def _slide(slide: "PickedSlide", change: SlideChange) -> dict[str, Any]:
    header = slide.stored.header
    return {
        "slide_id": change.slide_id,
        "part": slide.part,
        "label": slide.row.label,
        "tiles": change.tiles,
        "tiles_in_file": slide.tiles_in_file,
        "features_inputs_hash": header["inputs_hash"],
        "embedded_in": slide.embedded_in,
        "stored_as": str(slide.stored.features.dtype),
        "least_cosine": change.least_cosine,
        "mean_cosine": change.mean_cosine,
        "stored_cosine": change.stored_cosine,
        "logits": [_logit(one) for one in change.logits],
    }


def _logit(one: LogitChange) -> dict[str, Any]:
    return {
        "model": one.model,
        "score": one.score,
        "class": one.label,
        "exact": one.exact,
        "found": one.found,
        "rounded": one.rounded,
        "stored": one.stored,
        "change": one.change,
        "rounding_change": one.rounding_change,
        "stored_change": one.stored_change,
    }
