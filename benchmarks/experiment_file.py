"""The file of an experiment: problems, seeds, how everything is trained, and the methods that are compared.

A file may name a `base` (relative to itself) that it is laid over: keys of both are merged, its own win.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.settings.all import parse_settings
from wsi_kd.settings.base import Section
from wsi_kd.settings.models import TrainSettings
from wsi_kd.settings.slides import EmbedSettings


class GaussianCase(Section):
    """One Gaussian problem; see gaussian_bags."""

    easy: float = Field(gt=0)
    """Shift of the first half of the witnesses."""
    hard: float = Field(gt=0)
    """Shift of the second half."""
    same_axis: bool
    """Whether both are shifted along one axis."""
    witness_rate: float = Field(gt=0, lt=1)


class GaussianFamily(Section):
    """Gaussian bags, drawn anew for each seed."""

    family: Literal["gaussian"]
    cases: dict[str, GaussianCase] = Field(min_length=1)


class ImageFamily(Section):
    """Bags of labeled images at several witness rates; see image_bags and labeled_images."""

    family: Literal["images"]
    images: Literal["mnist", "cifar10"]
    positive_class: int = Field(ge=0, le=9)
    witness_rates: tuple[float, ...] = Field(min_length=1)
    """Share of positive images in a positive bag."""
    instances: int = Field(default=100, ge=2)
    """Images a bag."""
    embed: EmbedSettings
    """The encoder of the images; a relative `weights` starts from the data folder."""


class TableFamily(Section):
    """Bags from a table, cross-validated; see table_bags."""

    family: Literal["table"]
    table: Literal["musk1", "elephant"]
    folds: int = Field(ge=3)


class SlideFamily(Section):
    """The embedded slides of a workflow run, cross-validated by patient."""

    family: Literal["slides"]
    settings: Path
    """Settings file of the run, relative to the working folder."""
    folds: int = Field(ge=3)
    shuffled: bool = False
    """Deal each slide's tiles in an order of chance, where a teacher could read the truth in theirs."""


class Method(Section):
    """One line of the tables."""

    recipe: str
    """A recipe of the project."""
    train: dict[str, Any] = Field(default_factory=dict)
    """What differs from the experiment's section `train`."""


class Published(Section):
    """A figure of the literature, shown beside the measured ones."""

    name: str
    source: str
    values: dict[str, float]
    """Column -> value."""


class Experiment(Section):
    """Everything that one table needs."""

    title: str
    about: str = ""
    """What a reader of the table must know."""
    seeds: tuple[int, ...] = Field(min_length=1)
    problem: Annotated[
        GaussianFamily | ImageFamily | TableFamily | SlideFamily, Field(discriminator="family")
    ]
    train: dict[str, Any] = Field(default_factory=dict)
    """The section `train` of the settings as all methods share it."""
    methods: dict[str, Method] = Field(min_length=1)
    """Name -> what is trained."""
    only: tuple[str, ...] = ()
    """Which of the methods are measured, where a base names more; empty: all."""
    baselines: tuple[str, ...] = ()
    """Names of logistic_baselines that are measured too."""
    compare_with: str
    """The method that p-values compare with."""
    published: tuple[Published, ...] = ()

    def train_settings(self, name: str) -> TrainSettings:
        """Return the settings that a method trains with.

        Raises:
            BadInput: a key that nobody knows, a value out of range.
        """
        method = self.methods[name]
        merged = merge(self.train, method.train) | {"recipes": [method.recipe]}
        return parse_settings({"train": merged}, where=f"methods.{name}").train


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment; every method's settings are validated here, before anything is trained.

    Raises:
        BadInput: unreadable, an unknown key, a value out of range, a comparison with nobody.
    """
    value = _read_yaml(path)
    if "base" in value:
        value = merge(_read_yaml(path.parent / str(value["base"])), value)
        del value["base"]
    try:
        experiment = Experiment.model_validate(value)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise BadInput(f"{path}: {'; '.join(faults)}") from None
    for name in experiment.only:
        if name not in experiment.methods:
            raise unknown_name(f"method in only of {path}", name, experiment.methods)
    if experiment.only:
        kept = {name: experiment.methods[name] for name in experiment.only}
        experiment = experiment.model_copy(update={"methods": kept})
    if experiment.compare_with not in experiment.methods:
        raise unknown_name(f"method in compare_with of {path}", experiment.compare_with, experiment.methods)
    for name in experiment.methods:
        _check_method(path, experiment, name)
    return experiment


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, mappings inside likewise.

    >>> merge({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 4}, "e": 5})
    {'a': 1, 'b': {'c': 2, 'd': 4}, 'e': 5}
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _check_method(path: Path, experiment: Experiment, name: str) -> None:
    try:
        experiment.train_settings(name)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected an experiment's file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected keys such as `methods:`, found {type(value).__name__}")
    return value
