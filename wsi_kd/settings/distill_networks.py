"""Settings of `wsi-kd distill`: networks, criteria, optimizers, schedules."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag

from wsi_kd.settings.base import Section
from wsi_kd.settings.distill_data import PYTHON, PYTHON_NAME, Arguments, prefix_of


class NetworkSettings(Section):
    """What every network has."""

    weights: Path | None = None
    """Weights to start from: .safetensors, or .pt read without running code from it."""


class MlpSettings(NetworkSettings):
    """Network `mlp`: linear layers `hidden.0`, ... with ReLU, and `head`; inputs are flattened."""

    name: Literal["mlp"]
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    """Widths; [] is a linear classifier."""
    dropout: float = Field(default=0.0, ge=0, lt=1)


class CnnSmallSettings(NetworkSettings):
    """Network `cnn_small`: `blocks.0`, ... of convolution, batch norm, ReLU; all but the first halve."""

    name: Literal["cnn_small"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(16, 32), min_length=1)
    """Of each block."""
    dropout: float = Field(default=0.0, ge=0, lt=1)


class TimmSettings(NetworkSettings):
    """Network `timm:<name>`: any of timm's, with the data's channels and classes."""

    name: Annotated[str, Field(pattern=r"^timm:.+$")]
    arguments: Arguments = Field(default_factory=dict)
    """Passed on to timm.create_model, such as {pretrained: true}."""


class PythonNetworkSettings(NetworkSettings):
    """Network `python:module.function`: called with input_shape=, classes= and the arguments."""

    name: Annotated[str, Field(pattern=PYTHON_NAME)]
    arguments: Arguments = Field(default_factory=dict)


Network: TypeAlias = Annotated[
    Annotated[MlpSettings, Tag("mlp")]
    | Annotated[CnnSmallSettings, Tag("cnn_small")]
    | Annotated[TimmSettings, Tag("timm")]
    | Annotated[PythonNetworkSettings, Tag(PYTHON)],
    Discriminator(prefix_of),
]


class ConstantSettings(Section):
    """Schedule `constant`."""

    name: Literal["constant"]
    value: float = Field(default=1.0, ge=0)


class SpanSettings(Section):
    """Schedules `linear` and `cosine`: from start to end between two points of the training."""

    name: Literal["linear", "cosine"]
    start: float = Field(default=1.0, ge=0)
    end: float = Field(default=0.0, ge=0)
    begin: float = Field(default=0.0, ge=0, lt=1)
    finish: float = Field(default=1.0, gt=0, le=1)


class WarmupCosineSettings(Section):
    """Schedule `warmup_cosine`: up on a straight line, then down on half a cosine."""

    name: Literal["warmup_cosine"]
    warmup: float = Field(default=0.05, gt=0, lt=1)
    """Share of the training that goes up."""
    start: float = Field(default=0.1, gt=0)
    """Factor of the first epoch."""
    end: float = Field(default=0.0, ge=0)


class StepsSettings(Section):
    """Schedule `steps`: times `factor` from each of `at` on."""

    name: Literal["steps"]
    at: tuple[float, ...]
    """Shares of the training, such as [0.5, 0.75]."""
    factor: float = Field(default=0.1, ge=0)


ScheduleSettings: TypeAlias = Annotated[
    ConstantSettings | SpanSettings | WarmupCosineSettings | StepsSettings, Field(discriminator="name")
]


class SgdSettings(Section):
    """Optimizer `sgd`."""

    name: Literal["sgd"]
    learning_rate: float = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)


class AdamSettings(Section):
    """Optimizers `adam`, `adamw` and `lamb`."""

    name: Literal["adam", "adamw", "lamb"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)


OptimizerSettings: TypeAlias = Annotated[SgdSettings | AdamSettings, Field(discriminator="name")]


class MixSettings(Section):
    """Augmentations `mixup` and `cutmix`."""

    name: Literal["mixup", "cutmix"]
    alpha: float = Field(default=1.0, gt=0)
    """Shares are drawn from Beta(alpha, alpha)."""


class NoiseSettings(Section):
    """Augmentation `noise`."""

    name: Literal["noise"]
    deviation: float = Field(gt=0)
    """Standard deviation of what is added to each number."""


class RandomCropSettings(Section):
    """Augmentation `random_crop` of pictures: a part of each, resized, and mirrored or not."""

    name: Literal["random_crop"]
    smallest: float = Field(default=0.35, gt=0, le=1)
    """Smallest share of the picture's area."""
    flip: Literal["none", "horizontal", "both"] = "horizontal"
    """Mirror half of the pictures; both: top and bottom too, as tissue has neither."""


class RandAugmentSettings(Section):
    """Augmentation `rand_augment` of pictures of 0 to 1: timm's colors, contrast, shear, shift, rotation."""

    name: Literal["rand_augment"]
    magnitude: int = Field(default=7, ge=0, le=10)
    deviation: float = Field(default=0.5, ge=0)
    """Standard deviation of the magnitude."""
    operations: int = Field(default=2, ge=1)
    """Drawn for each picture; half of them are applied."""


class OneOfSettings(Section):
    """Augmentation `one_of`: one of several, drawn for each batch."""

    name: Literal["one_of"]
    choices: tuple[Annotated[MixSettings | NoiseSettings, Field(discriminator="name")], ...] = Field(
        min_length=1
    )


AugmentationSettings: TypeAlias = Annotated[
    MixSettings | NoiseSettings | OneOfSettings | RandomCropSettings | RandAugmentSettings,
    Field(discriminator="name"),
]


class CriterionSettings(Section):
    """One of the list `criteria`; every other key is an option of the loss, docs/kd.md names the losses."""

    model_config = ConfigDict(extra="allow")

    type: str
    """Name of a loss, such as kd."""
    name: str = ""
    """Its name in the history; default: its type."""
    weight: float = Field(default=1.0, ge=0)
    layers: tuple[str, str | tuple[str, ...]] | None = None
    """For losses on features: [student's layer, teacher's layer]; `--layers` lists them."""
    schedule: ScheduleSettings | None = None
    """What multiplies the weight over the training."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the loss's constructor, not checked yet."""
        return dict(self.model_extra or {})
