"""Settings of `wsi-kd distill` where data are `tiles`: a large tile encoder taught to a small one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wsi_kd.settings.base import Section
from wsi_kd.settings.changes import changed
from wsi_kd.settings.distill_networks import (
    AdamSettings,
    CriterionSettings,
    OptimizerSettings,
    ScheduleSettings,
    SpanSettings,
)
from wsi_kd.settings.faults import parse, read_mapping
from wsi_kd.settings.slides import EmbedSettings

Color = tuple[float, float, float]
TILES = "tiles"


class TilesSettings(Section):
    """Section `data`: tiles of a run whose `embed.encoder` is `pixels`."""

    name: Literal["tiles"]
    pixels_dir: Path
    """Its folder `features`."""
    features_dir: Path | None = None
    """Folder `features` of the large encoder's run on the same tiles; without it `teacher` computes them."""
    splits: Path | None = None
    """splits.csv of a run: slides of `fold` that are tested on are not read. Set it where tests follow."""
    fold: int = Field(default=0, ge=0)
    val: float = Field(default=0.2, gt=0, lt=1)
    """Share of the slides that the best epoch is chosen on, where there are no splits."""
    tiles_per_slide: int = Field(default=1024, ge=1)
    """Tiles drawn from each slide; all are kept in memory."""
    batch_size: int = Field(default=128, ge=2)
    seed: int = Field(default=0, ge=0)
    """Seed of both draws."""


class SmallEncoderSettings(Section):
    """Section `student`: the small encoder."""

    encoder: str = "tile_cnn"
    """`tile_cnn`, a timm name, or one of torchvision's; it starts from random weights."""
    model_arguments: dict[str, bool | int | float | str | tuple[Annotated[int, Field(ge=1)], ...]] = Field(
        default_factory=dict
    )
    """Keywords of its constructor, such as channels: [16, 32, 64, 128] of tile_cnn."""
    input_px: int | None = Field(default=None, ge=8)
    """Edge that tiles are resized to; default: that of the stored pixels."""
    pixel_mean: Color = (0.5, 0.5, 0.5)
    """Mean subtracted from pixels in 0-1."""
    pixel_std: Color = (0.5, 0.5, 0.5)
    """Standard deviation that pixels in 0-1 are divided by."""


class EncoderTrainSettings(Section):
    """Section `train`."""

    epochs: int = Field(default=20, ge=1)
    optimizer: OptimizerSettings = AdamSettings(name="adamw", learning_rate=2e-3, weight_decay=1e-2)
    schedule: ScheduleSettings | None = SpanSettings(name="cosine")
    """What multiplies the learning rate over the training."""
    augmentation: Literal["none", "dihedral"] = "dihedral"
    """How tiles are shown: dihedral turns and mirrors each by chance; the large encoder's word stays that on
    the tile as it is."""
    seed: int = Field(default=0, ge=0)
    device: str = "cpu"
    """auto, cpu, cuda or cuda:N."""


class DistillEncoderSettings(Section):
    """The whole file."""

    data: TilesSettings
    student: SmallEncoderSettings = SmallEncoderSettings()
    teacher: EmbedSettings | None = None
    """The large encoder, as in section `embed` of a run; not with data.features_dir."""
    model: Path | None = None
    """Folder of a trained model (models/<recipe>/seed0/fold0) on the large encoder's features: what it says
    of each tile is what criteria on logits learn."""
    criteria: Annotated[tuple[CriterionSettings, ...], Field(min_length=1)] = (
        CriterionSettings(type="hint", weight=1.0),
    )
    """Losses of docs/kd.md that need no labels; layers are not named."""
    train: EncoderTrainSettings = EncoderTrainSettings()

    @model_validator(mode="after")
    def _one_large_encoder(self) -> Self:
        if (self.teacher is None) == (self.data.features_dir is None):
            raise ValueError(
                "the large encoder's features are stored (data.features_dir) or computed (teacher); "
                "set one of the two"
            )
        named = [each.type for each in self.criteria if each.layers is not None]
        if named:
            raise ValueError(
                f"criterion {named[0]}: layers are fixed here, both encoders' features; remove them"
            )
        return self


def is_of_tiles(path: Path) -> bool:
    """Tell whether a file's data are `tiles`, so that the settings of this module are meant.

    Raises:
        BadInput: a file that cannot be read, or holds no mapping.
    """
    data = read_mapping(path, such_as="data").get("data")
    return isinstance(data, Mapping) and data.get("name") == TILES


def read_encoder_settings(path: Path, *, changes: Sequence[str] = ()) -> DistillEncoderSettings:
    """Read a file such as configs/kd/tile_encoder.yaml, with `changes` such as train.epochs=5 made to it.

    Raises:
        BadInput: no such file, no YAML, unknown keys or names, wrong values; all in one line.
    """
    value = changed(read_mapping(path, such_as="data"), changes)
    return parse(DistillEncoderSettings, value, where=str(path))
