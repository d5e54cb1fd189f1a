"""Facts of the items on slides, cases and partitions: a part of `reporting_schema`."""

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED
from wsi_kd.report.reporting_values import Counts


@with_config(DESCRIBED)
class DataSources(TypedDict):
    """Where slides come from; keys are names, values slides."""

    slides: int
    cases: int
    sites: Counts
    """Of the slides that were tested; empty where the manifest names none."""
    vendors: Counts
    scanners: Counts


@with_config(DESCRIBED)
class Preprocessing(TypedDict):
    """From slide to features."""

    settings: dict[str, dict[str, Any]]
    """Sections slides, mask, tile, stain and embed as the models recorded them."""
    encoders: list[str]
    tiles_laid: int
    tiles_used: int
    left_out: Counts
    """Tiles by reason."""


@with_config(DESCRIBED)
class Deidentification(TypedDict):
    """What of a patient the report can hold."""

    label_and_macro_images: bool
    folders: bool
    slide_metadata: list[str]
    """Entries of a slide that the report shows."""


@with_config(DESCRIBED)
class MissingData(TypedDict):
    """Slides that lack something; keys are what they lack."""

    slides: Counts
    tiles_without_label: int
    """Of the slides that were tested."""
    handling: dict[str, str]


@with_config(DESCRIBED)
class Labels(TypedDict):
    """What is predicted."""

    classes: list[str]
    """The negative one first."""
    positive_classes: list[str]
    slides_per_class: Counts
    labeled_tiles: int
    positive_tiles: int


@with_config(DESCRIBED)
class SampleSize(TypedDict):
    """How many."""

    slides: int
    cases: int
    slides_used: int
    slides_per_class: Counts
    tiles: int


@with_config(DESCRIBED)
class Partition(TypedDict):
    """How slides came into train, val and test."""

    origin: Literal["drawn", "given", "column split of the manifest"]
    folds: int
    seed: int | None
    """Of the draw; null where it was none."""
    splits_sha256: str


@with_config(DESCRIBED)
class PartitionLevel(TypedDict):
    """What never stands in two parts of a fold."""

    level: Literal["case"]
    folds_checked: int
    cases_in_two_parts: int
    """0: a run with an overlap is refused, before training and here."""


@with_config(DESCRIBED)
class PartitionCount(TypedDict):
    """One part of one fold."""

    fold: int
    part: str
    slides: int
    cases: int
    slides_per_class: Counts


@with_config(DESCRIBED)
class ClassImbalance(TypedDict):
    """Shares of the classes among labeled slides."""

    shares: dict[str, float]
    handling: str


@with_config(DESCRIBED)
class FlowStage(TypedDict):
    """One step: slides in, slides that it left out by reason, slides that went on."""

    step: str
    slides_in: int
    left_out: Counts
    slides_out: int


@with_config(DESCRIBED)
class ExcludedSlide(TypedDict):
    """A slide that reached no model."""

    slide_id: str
    step: str
    status: str
    reason: str


@with_config(DESCRIBED)
class Flow(TypedDict):
    """Slides from the manifest to the numbers."""

    stages: list[FlowStage]
    excluded: list[ExcludedSlide]
