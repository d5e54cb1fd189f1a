"""Facts of the items on models and how they were made: a part of `reporting_schema`."""

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED


@with_config(DESCRIBED)
class ModelSpecification(TypedDict):
    """One recipe's model: with the weights, all that rebuilds it."""

    recipe: str
    teacher: str
    arguments: dict[str, Any]
    encoder: str
    encoder_weights_hash: str
    student_pooling: str
    top_k: int


@with_config(DESCRIBED)
class Software(TypedDict):
    """What computed it."""

    versions: dict[str, str]
    code: str
    """Commit of the package's checkout when the report was drawn."""


@with_config(DESCRIBED)
class Initialization(TypedDict):
    """Where training starts."""

    seeds: list[int]
    encoder_weights_hashes: list[str]


@with_config(DESCRIBED)
class TrainedRecipe(TypedDict):
    """How one recipe was trained."""

    recipe: str
    settings: dict[str, Any]
    """Section train."""
    models: int
    epochs: list[int]
    """That each model was trained for."""


@with_config(DESCRIBED)
class Computation(TypedDict):
    """Time and memory."""

    seconds: dict[str, float]
    """Wall clock of all jobs, by step."""
    largest_rss_mb: float | None
    """2^20 bytes; null where none was measured."""


@with_config(DESCRIBED)
class KeptEpoch(TypedDict):
    """The epoch of one model whose weights were kept."""

    recipe: str
    seed: int
    fold: int
    epoch: int


@with_config(DESCRIBED)
class ModelSelection(TypedDict):
    """Which epoch of a training answers."""

    rule: str
    chosen_on: Literal["val"]
    kept: list[KeptEpoch]


@with_config(DESCRIBED)
class WeightsHash(TypedDict):
    """One model's weights."""

    recipe: str
    seed: int
    fold: int
    sha256: str


@with_config(DESCRIBED)
class Hashes(TypedDict):
    """By which model, data and code can be told to be the same."""

    models: list[WeightsHash]
    slides: dict[str, str]
    """Fingerprint of each slide's file, by slide id."""
    splits_sha256: str
    settings_hash: str
    code: str
