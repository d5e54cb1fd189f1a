"""Settings of `wsi-kd distill`: one file a distillation. A method's options are a class of this file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from wsi_kd.settings.base import Section
from wsi_kd.settings.changes import changed
from wsi_kd.settings.distill_data import DataSettings, Size
from wsi_kd.settings.distill_networks import (
    AdamSettings,
    AugmentationSettings,
    CriterionSettings,
    Network,
    OptimizerSettings,
    ScheduleSettings,
)
from wsi_kd.settings.faults import parse, read_mapping


class PlainSettings(Section):
    """Method `plain`: the weighted sum of the criteria."""

    name: Literal["plain"] = "plain"
    unlabeled: bool = True
    """Learn from the samples without labels too, by the criteria that need none."""


Weight: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class VarianceReductionSettings(Section):
    """Method `variance_reduction`: a share of the teacher's gradient of each batch is taken off.

    The teacher has the student's architecture; the criteria are those of the labels.
    """

    name: Literal["variance_reduction"]
    weight: Weight | Annotated[tuple[Weight, ...], Field(min_length=1)]
    """Share of the teacher's gradient, or several of which the validation part chooses; 0: no teacher."""
    full_gradient: bool = False
    """Give the teacher's mean gradient over the training part back: noise is taken off without a bias."""
    schedule: ScheduleSettings | None = None
    """What multiplies the weight over the training."""


class LstmTeacherSettings(Section):
    """What changes the dynamic loss: an LSTM, which learns too."""

    name: Literal["lstm"] = "lstm"
    units: int = Field(default=8, ge=1)
    scale: float = Field(default=0.05, gt=0)
    """What its answers are multiplied by."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Of Adam, by which the LSTM learns."""


class DescentTeacherSettings(Section):
    """What changes the dynamic loss: plain gradient descent, which remembers and learns nothing."""

    name: Literal["descent"]
    rate: float = Field(gt=0)


class DynamicLossSettings(Section):
    """Method `dynamic_loss`: beside the criteria a small network is a loss that is learned too.

    The optimizer must be sgd. The samples without labels are not used.
    """

    name: Literal["dynamic_loss"]
    teaching: Size = 0.5
    """Number or share of the validation samples that teach the loss; the others choose the best epoch."""
    weight: float = Field(default=1.0, gt=0)
    """Of the dynamic loss beside the criteria."""
    hidden: int = Field(default=16, ge=1)
    """Hidden units of the loss network."""
    activation: str = "softplus"
    """Of the loss network: gelu, sigmoid, silu, softplus or tanh; it must be smooth."""
    teacher: Annotated[LstmTeacherSettings | DescentTeacherSettings, Field(discriminator="name")] = (
        LstmTeacherSettings()
    )
    inner_steps: int = Field(default=1, ge=1)
    """Training batches between two changes of the loss."""
    window: int = Field(default=4, ge=1)
    """Changes of the loss that the LSTM learns from at once."""


class SearchSettings(Section):
    """Method `search`: evolve a loss by short trainings, then train with it beside the criteria."""

    name: Literal["search"]
    logits: bool = True
    """Whether logits may be compared."""
    layers: tuple[tuple[str, str], ...] = ()
    """Pairs [student's layer, teacher's layer] whose features may be; `--layers` lists them."""
    transforms: tuple[str, ...] | None = None
    """What losses may hold; default: all that there are, docs/kd.md names them."""
    distances: tuple[str, ...] | None = None
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Of the loss beside the criteria; default: 0.1, 0.3, 1, ... 300."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Default: 1, 2, 4, 8."""
    population: int = Field(default=20, ge=2)
    generations: int = Field(default=10, ge=0)
    elite: int = Field(default=5, ge=1)
    """How many of a population stay, and are the parents of the others."""
    crossover: float = Field(default=0.5, ge=0, le=1)
    """Probability that a child has two parents."""
    mutation: float = Field(default=0.8, ge=0, le=1)
    """Probability that such a child is changed; one of one parent always is."""
    shrink_every: int = Field(default=3, ge=0)
    """Generations after which the space loses what the better half does without; 0: never."""
    objective: Literal["accuracy", "gaps"] = "accuracy"
    """What a short training is rated by on validation; gaps: nearness to the teacher, without labels."""
    proxy_epochs: int = Field(default=5, ge=1)
    """Of a short training."""
    proxy_batches: int | None = Field(default=None, ge=1)
    """Batches of each of its epochs; default: all."""
    proxy_seeds: int = Field(default=1, ge=1)
    """Short trainings a loss."""
    unlabeled: bool = True
    """Learn from the samples without labels too."""
    workers: int = Field(default=1, ge=1)
    """Processes that train; the result does not depend on how many."""


MethodSettings: TypeAlias = Annotated[
    DynamicLossSettings | PlainSettings | SearchSettings | VarianceReductionSettings,
    Field(discriminator="name"),
]


class TeacherTrainSettings(Section):
    """Section `train` of a teacher: how it learns from labels, where it has no weights."""

    epochs: int = Field(default=20, ge=1)
    optimizer: OptimizerSettings = AdamSettings()
    schedule: ScheduleSettings | None = None
    """What multiplies the learning rate over the training."""
    seed: int = Field(default=0, ge=0)
    classes: tuple[int, ...] = ()
    """Learn from samples of these classes alone (a specialist); empty: of all."""
    samples: int | None = Field(default=None, ge=1)
    """Learn from this many samples, drawn in the proportions of the classes; default: all."""
    elsewhere: Literal["left_out", "uniform"] = "left_out"
    """What a specialist is shown of the other classes: nothing, or that all classes are as likely."""
    all_labels: bool = False
    """Learn from the labels too that data.labeled takes from the student."""


class TeacherSettings(Section):
    """One teacher: its network, with weights or trained first."""

    network: Network
    train: TeacherTrainSettings = TeacherTrainSettings()
    """Not looked at where network.weights is set."""


class DistillTrainSettings(Section):
    """Section `train`: how the student learns."""

    epochs: int = Field(default=20, ge=1)
    optimizer: OptimizerSettings = AdamSettings()
    schedule: ScheduleSettings | None = None
    """What multiplies the learning rate over the training."""
    seed: int = Field(default=0, ge=0)
    """Seed of first weights, order of samples, dropout, augmentation."""
    augmentation: tuple[AugmentationSettings, ...] = ()
    """What training batches go through, in this order, before teachers and student see them."""
    device: str = "cpu"
    """auto, cpu, cuda or cuda:N."""


class DistillSettings(Section):
    """The whole file."""

    data: DataSettings
    student: Network
    teachers: tuple[TeacherSettings, ...] = ()
    """One or a list; none: a baseline that learns from labels."""
    criteria: tuple[CriterionSettings, ...] = Field(min_length=1)
    train: DistillTrainSettings = DistillTrainSettings()
    method: MethodSettings = PlainSettings()

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value


def read_distill_settings(path: Path, *, changes: Sequence[str] = ()) -> DistillSettings:
    """Read a file of configs/kd, with `changes` such as train.epochs=5 or criteria.0.weight=2 made to it.

    Raises:
        BadInput: no such file, no YAML, unknown keys or names, wrong values; all in one line.
    """
    return parse(DistillSettings, changed(read_mapping(path, such_as="data"), changes), where=str(path))
