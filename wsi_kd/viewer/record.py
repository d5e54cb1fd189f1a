"""What a viewer shows: the numbers and file names of a run, as the step read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wsi_kd.slides.icc import Color
from wsi_kd.slides.protocol import Background


class Uncertainty(NamedTuple):
    """What the number `uncertain` of a slide is, so that it can be filtered."""

    name: str
    low_is_uncertain: bool
    limit: float
    """Slides on the uncertain side of it are listed as such."""


MARGIN = Uncertainty(
    "distance to the threshold, as a share of the way to 0 or 1", low_is_uncertain=True, limit=0.2
)
SPREAD = Uncertainty(
    "standard deviation between the models of the ensemble", low_is_uncertain=False, limit=0.1
)


class ModelKey(NamedTuple):
    """One trained model of a run."""

    key: str
    """As it stands in addresses, and in the folders of a run: `weno/seed0/fold0`."""
    recipe: str
    seed: int | None
    """None for an ensemble."""
    fold: int | None


class ModelAnswer(NamedTuple):
    """What one model says of one slide."""

    model: str
    """`ModelKey.key`."""
    part: str
    """val or test; empty for a slide of no run."""
    teacher: float | None
    student: float | None
    teacher_call: str
    student_call: str
    thresholds: Mapping[str, float | None]
    """By teacher, student."""
    right: bool | None
    """Whether the student's call (without one, the teacher's) is the label; None where there is no label."""
    uncertain: float | None
    """In the sense of `Viewed.uncertainty`."""
    out_of_distribution: bool | None


class ViewedSlide(NamedTuple):
    """One slide of the list; `index` in the list is all that an address ever names."""

    slide_id: str
    path: Path | None
    """Where its file is; None where nobody said so."""
    status: str
    reason: str
    step: str
    label: str
    site: str
    slide_mpp: float | None
    annotation: Path | None
    answers: tuple[ModelAnswer, ...]
    tiles: Mapping[str, Path]
    """Tables of tile scores by model."""


class Viewed(NamedTuple):
    """Everything that is shown."""

    title: str
    classes: tuple[str, ...]
    models: tuple[ModelKey, ...]
    slides: tuple[ViewedSlide, ...]
    root: Path | None
    """Folder that every table of tile scores and the report lie in; None for bare slides."""
    background: Background
    color: Color
    uncertainty: Uncertainty = MARGIN
    report: Path | None = None


def margin(probability: float | None, threshold: float | None) -> float | None:
    """Return how far a probability is from its threshold, as a share of the way to 0 or to 1.

    >>> margin(0.75, 0.5), margin(0.25, 0.5), margin(0.5, 0.5), margin(0.5, None)
    (0.5, 0.5, 0.0, None)
    """
    if probability is None or threshold is None:
        return None
    way = 1 - threshold if probability >= threshold else threshold
    return abs(probability - threshold) / way if way > 0 else 0.0
