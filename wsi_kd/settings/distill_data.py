"""Settings of `wsi-kd distill`: where samples come from. A source's function has the same options."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from wsi_kd.settings.base import Section

Plain: TypeAlias = bool | int | float | str
"""What a file may hand to a function that it names."""
Arguments: TypeAlias = dict[str, Plain | list[Plain] | None]
Size: TypeAlias = Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)]
"""A number of samples (60) or a share of all (0.2)."""
PYTHON = "python"
PYTHON_NAME = r"^python:[A-Za-z_][\w.]*\.[A-Za-z_]\w*$"


def prefix_of(value: Any) -> str | None:
    """Return what tells the kinds of a section apart: its `name` up to a colon."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name.partition(":")[0] if isinstance(name, str) else None


class SourceSettings(Section):
    """Section `data`: what every source has."""

    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    """Samples a batch, of training and of scoring."""
    val: Size = 0.2
    """Samples (60) or share (0.2) that the best epoch is chosen on, where the source has no such part."""
    test: Size = 0.25
    """Samples or share that is scored once at the end, where the source has no such part."""
    seed: int = Field(default=0, ge=0)
    """Seed of every draw: parts, samples with labels, false labels."""
    train_samples: int | None = Field(default=None, ge=1)
    """Training samples that are kept, drawn in the proportions of the classes; default: all."""
    labeled: int | None = Field(default=None, ge=1)
    """Training samples that keep their labels, drawn in the proportions of the classes; default: all."""
    label_noise: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training labels that are replaced by another class; those of val and test stay true."""
    standardize: bool = False
    """Subtract the training part's mean and divide by its deviation, by feature or by channel."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode samples; 0: none beside the training's own."""


class DigitsSettings(SourceSettings):
    """Source `digits`: sklearn's 1,797 digits of 8 x 8 px, 0 to 1; embedded."""

    name: Literal["digits"] = "digits"
    images: bool = False
    """Give (1, 8, 8) images instead of 64 numbers."""


class NpzSettings(SourceSettings):
    """Source `npz`: arrays of a .npz file, `x` and `y`, or `x_train`, `y_train`, `x_val`, ..., `y_test`."""

    name: Literal["npz"]
    path: Path
    """Bytes (uint8) are divided by 255; images are (samples, channels, height, width)."""


class ImageFolderSettings(SourceSettings):
    """Source `image_folder`: one folder a class; or `train`, `val` (optional) and `test` folders of those."""

    name: Literal["image_folder"]
    path: Path
    image_px: int = Field(ge=1)
    """Edge that images are resized to."""
    channels: Literal[1, 3] = 3
    """1: gray; 3: RGB. Values are 0 to 1."""


class FeaturesSettings(SourceSettings):
    """Source `features`: tiles of the workflow's features/<slide_id>.h5; no case is in two parts."""

    name: Literal["features"]
    features_dir: Path
    manifest: Path
    """The run's slides.csv: slides, their labels and cases."""
    labels: Literal["tile", "slide"] = "tile"
    """tile: those of the annotation, tiles without one are unlabeled; slide: each tile has its slide's."""
    tiles_per_slide: int = Field(default=256, ge=1)
    """Tiles drawn from each slide; all are kept in memory."""
    tile_seed: int = Field(default=0, ge=0)
    """Seed of that draw."""


class Cifar10ZipSettings(SourceSettings):
    """Source `cifar10_zip`: images `<part>/<class>/<number>.jpg` of a .zip file, 32 px, RGB, 0 to 1."""

    name: Literal["cifar10_zip"]
    path: Path


class PythonSourceSettings(SourceSettings):
    """Source `python:module.function`: a function of yours that returns (inputs, labels) or a `Data`."""

    name: Annotated[str, Field(pattern=PYTHON_NAME)]
    arguments: Arguments = Field(default_factory=dict)
    """Keywords the function is called with."""


DataSettings: TypeAlias = Annotated[
    Annotated[DigitsSettings, Tag("digits")]
    | Annotated[NpzSettings, Tag("npz")]
    | Annotated[ImageFolderSettings, Tag("image_folder")]
    | Annotated[FeaturesSettings, Tag("features")]
    | Annotated[Cifar10ZipSettings, Tag("cifar10_zip")]
    | Annotated[PythonSourceSettings, Tag(PYTHON)],
    Discriminator(prefix_of),
]
