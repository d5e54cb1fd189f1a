"""The structure of `prediction.json`, and the JSON schema that is made of it (docs/schemas).

No member holds a path, a slide's metadata or an image: a slide's id and file name are all that could name a
patient.
"""

from typing import (
    Annotated,
    Any,
    Final,
    NotRequired,  # pydantic takes no other below Python 3.12
)

from pydantic import Field, with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED, file_schema, schema_text
from wsi_kd.core.records import SlideStatus

KIND: Final = "prediction"


@with_config(DESCRIBED)
class ThresholdRecord(TypedDict):
    """Where a score is called positive."""

    value: float | None
    """Null for a score that the model does not have. Of several models the mean of theirs."""
    rule: str
    """By which each model's threshold was chosen."""
    chosen_on: str
    """The part of the split whose slides it was chosen on."""


@with_config(DESCRIBED)
class SpreadRecord(TypedDict):
    """How far the models of an ensemble disagree on one probability."""

    sd: float
    low: float
    high: float


@with_config(DESCRIBED)
class UncertaintyRecord(TypedDict):
    """How far the models of an ensemble disagree."""

    models: int
    spread: dict[str, SpreadRecord]
    """By score: of the probability of any class but the first. Empty for one model or a failed slide."""
    meaning: str


@with_config(DESCRIBED)
class OutOfDistributionRecord(TypedDict):
    """Whether the slide looks like those of the training; of several models that of the middle one."""

    feature_distance: float
    """Of the slide's tiles from those of the training, as `meaning` says; usually about 1."""
    flag: bool
    """The distance is beyond the limit: do not trust the answer."""
    limit: float
    rule: str
    """How the limit was found: conformal, lognormal or constant."""
    false_flags: float | None
    """Share of cases like the training's that the limit flags; null where unknown."""
    cases: int
    slides: int
    chosen_on: str
    meaning: str


@with_config(DESCRIBED)
class ModelRecord(TypedDict):
    """Which model answered."""

    recipe: str
    teacher: str
    seed: int
    fold: int
    epoch: int
    weights_sha256: str
    student_pooling: str
    top_k: int


@with_config(DESCRIBED)
class SlideRecord(TypedDict, total=False):
    """What is known of the slide; a slide that failed lacks what no step came to."""

    slide_file: str
    """The file's name, never its folder."""
    fingerprint: str
    slide_mpp: float
    """um/px of level 0; 0 where unknown."""
    mpp_source: str
    level0_width: int
    level0_height: int
    bounds: Annotated[list[int], Field(min_length=4, max_length=4)]
    """Corner, width and height of the scanned part, level-0 px; GeoJSON counts from that corner."""
    tissue_mm2: float
    tile_px: int
    tile_mpp: float
    overlap_px: int
    tile_level0_px: float
    coords_given: bool
    """Only of features made elsewhere: whether they came with positions."""
    tiles_laid: int
    damaged_tiles: int
    dropped_pen: int
    dropped_background: int
    dropped_blurred: int
    encoder: str
    weights_hash: str
    feature_dim: int


@with_config(DESCRIBED)
class SecondsRecord(TypedDict):
    """Wall time of the slide's steps; `embed` holds reading and encoding, which overlap."""

    mask: float
    tile: float
    embed: float
    score: float
    files: float


@with_config(DESCRIBED)
class PredictionRecord(TypedDict):
    """The file's members."""

    schema_version: int
    kind: str
    settings: dict[str, dict[str, Any]]
    """Sections that the slide's features were made by, without paths."""
    settings_hash: str
    versions: dict[str, str]
    inputs_hash: str
    """sha256 of all that the answer follows from; empty where the slide's file could not be read."""
    slide_id: str
    status: SlideStatus
    reason: str
    """Of a failed slide why; of one that is ok what is to be known of it; else empty."""
    step: str
    """infer, or the step in which the slide failed."""
    classes: Annotated[list[str], Field(min_length=2)]
    """In order, the negative one first."""
    probabilities: dict[str, dict[str, float]]
    """By score (teacher, student, student_max, student_topk) and class; empty for a slide that failed."""
    calls: dict[str, str]
    """Class by score, at the threshold."""
    thresholds: dict[str, ThresholdRecord]
    uncertainty: UncertaintyRecord
    out_of_distribution: OutOfDistributionRecord | None
    """Null for a slide that failed."""
    tiles: int
    """Tiles that were scored."""
    slide: SlideRecord
    models: Annotated[list[ModelRecord], Field(min_length=1)]
    seconds: SecondsRecord
    files: dict[str, str]
    """sha256 of each file beside this one, by name."""
    research_only: str
    content_sha256: NotRequired[str]
    """sha256 of all other members in canonical form; added when the file is written."""


def prediction_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the file as this version writes it."""
    return file_schema(PredictionRecord, kind=KIND, title="prediction.json")


def prediction_schema_json() -> str:
    """Return the text of docs/schemas/prediction.schema.json."""
    return schema_text(prediction_schema())
