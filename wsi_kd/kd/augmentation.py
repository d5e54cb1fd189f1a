"""Augmentation of whole batches: strong recipes mix samples and their labels.

    mixup     x = l x_i + (1 - l) x_j,  y = l y_i + (1 - l) y_j,  l ~ Beta(alpha, alpha), one a batch
    cutmix    a box of x_j in x_i, its sides sqrt(1 - l) of the picture's, its center drawn evenly, cut off at
              the edges; l in the labels is the share of the picture that is left of x_i

j is a random order of the batch. A teacher must see the batch that the student sees ("consistent teaching",
Hao et al., NeurIPS 2023, arXiv 2305.15781), so `Distiller(augment=...)` applies them before both.

All draws come from torch's global generators, which `Distiller.fit` seeds by epoch: a resumed training draws
what an uninterrupted one does. The shares and orders are drawn on the CPU, so that they are the same whatever
device the batch is on.

Sources: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018, eq. 1; Yun et al., "CutMix:
regularization strategy to train strong classifiers with localizable features", ICCV 2019, eq. 1 and 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import describe

Augment: TypeAlias = Callable[[Any, Tensor | None], tuple[Any, Tensor | None]]
"""From (inputs, labels) of a batch to others; labels may be None, integers or soft ones."""
IMAGE_AXES: Final = 4


class Augmented(NamedTuple):
    """A batch after an augmentation."""

    inputs: Any
    labels: Tensor | None


@dataclass(frozen=True)
class Mixup:
    """Mix each sample with another one, and their labels alike.

    `classes` is the length of the soft labels that integers become; batches without labels stay without.

    >>> mixed = Mixup(alpha=1.0, classes=3)(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 2]))
    >>> mixed.labels.sum(dim=1).tolist()
    [1.0, 1.0]
    >>> torch.equal(mixed.inputs[:, 0], mixed.labels[:, 2])
    True
    """

    alpha: float
    classes: int

    def __post_init__(self) -> None:
        _require_positive(self, alpha=self.alpha, classes=self.classes)

    def __call__(self, inputs: Any, labels: Tensor | None) -> Augmented:
        """Return the mixture; the share and the order are drawn anew."""
        checked = _tensor_inputs(self, inputs)
        share, order = draw_share(self.alpha), torch.randperm(len(checked))
        mixed = share * checked + (1.0 - share) * checked[order.to(checked.device)]
        return Augmented(mixed, mix_labels(labels, order, share=share, classes=self.classes))


@dataclass(frozen=True)
class CutMix:
    """Put a box of another picture into each, and mix their labels by area; see `Mixup`."""

    alpha: float
    classes: int

    def __post_init__(self) -> None:
        _require_positive(self, alpha=self.alpha, classes=self.classes)

    def __call__(self, inputs: Any, labels: Tensor | None) -> Augmented:
        """Return the mixture; box and order are drawn anew.

        Raises:
            BadInput: inputs that are no pictures (samples, channels, height, width).
        """
        checked = _tensor_inputs(self, inputs)
        if checked.ndim != IMAGE_AXES:
            raise BadInput(
                f"{type(self).__name__}: inputs are {describe(checked)}; expected pictures (samples, "
                "channels, height, width); for others take Mixup"
            )
        share, order = draw_share(self.alpha), torch.randperm(len(checked))
        height, width = checked.shape[-2:]
        box = draw_box(height, width, share=share)
        mixed = checked.clone()
        mixed[..., box.rows, box.columns] = checked[order.to(checked.device)][..., box.rows, box.columns]
        left = 1.0 - box.area / (height * width)
        return Augmented(mixed, mix_labels(labels, order, share=left, classes=self.classes))


@dataclass(frozen=True)
class GaussianNoise:
    """Add noise of a standard deviation to every number; labels stay."""

    deviation: float

    def __post_init__(self) -> None:
        _require_positive(self, deviation=self.deviation)

    def __call__(self, inputs: Any, labels: Tensor | None) -> Augmented:
        """Return noisy inputs."""
        checked = _tensor_inputs(self, inputs)
        return Augmented(checked + self.deviation * torch.randn_like(checked), labels)


@dataclass(frozen=True)
class OneOf:
    """Take one of several augmentations for each batch, all as likely; recipes switch mixup and cutmix."""

    choices: tuple[Augment, ...]

    def __post_init__(self) -> None:
        _require_positive(self, choices=len(self.choices))

    def __call__(self, inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        """Return what the one that is drawn makes."""
        return self.choices[int(torch.randint(len(self.choices), ()))](inputs, labels)


@dataclass(frozen=True)
class InOrder:
    """Apply several augmentations one after another."""

    parts: tuple[Augment, ...]

    def __post_init__(self) -> None:
        _require_positive(self, parts=len(self.parts))

    def __call__(self, inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        """Return what the last one makes."""
        for part in self.parts:
            inputs, labels = part(inputs, labels)
        return inputs, labels


class Box(NamedTuple):
    """A part of a picture."""

    rows: slice
    columns: slice
    area: int
    """Pixels."""


def draw_share(alpha: float) -> float:
    """Draw from Beta(alpha, alpha): how much stays of a sample."""
    return float(torch.distributions.Beta(alpha, alpha).sample())


def draw_box(height: int, width: int, *, share: float) -> Box:
    """Draw a box of 1 - `share` of a picture's area (less where its edges cut it), its center anywhere."""
    scale = math.sqrt(1.0 - share)
    spans = []
    for side in (height, width):
        length, center = int(side * scale), int(torch.randint(side, ()))
        first = center - length // 2
        spans.append(slice(max(first, 0), min(first + length, side)))
    rows, columns = spans
    return Box(rows, columns, (rows.stop - rows.start) * (columns.stop - columns.start))


def mix_labels(
    labels: Tensor | None, order: Int64[Tensor, "samples"], *, share: float, classes: int
) -> Float[Tensor, "samples classes"] | None:
    """Return share y_i + (1 - share) y_order(i); integers become one-hot first.

    Raises:
        BadInput: labels that are neither (samples,) integers of 0 to classes - 1 nor (samples, classes).
    """
    if labels is None:
        return None
    soft = _one_hot(labels, classes=classes, samples=len(order))
    return share * soft + (1.0 - share) * soft[order.to(soft.device)]


def describe_augment(augment: Augment | None) -> str:
    """Return what tells one augmentation from another, the same in every process.

    >>> describe_augment(InOrder((GaussianNoise(0.5), Mixup(alpha=0.2, classes=10))))
    'InOrder(parts=(GaussianNoise(deviation=0.5), Mixup(alpha=0.2, classes=10)))'
    """
    if augment is None:
        return "none"
    if is_dataclass(augment) and not isinstance(augment, type):
        settings = [f"{field.name}={_shown(getattr(augment, field.name))}" for field in fields(augment)]
        return f"{type(augment).__name__}({', '.join(settings)})"
    # repr of other objects may hold an address, which no other process has
    return str(getattr(augment, "__qualname__", type(augment).__qualname__))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return describe_augment(value) if callable(value) else repr(value)


def _one_hot(labels: Tensor, *, classes: int, samples: int) -> Tensor:
    soft = labels.is_floating_point()
    if tuple(labels.shape) != ((samples, classes) if soft else (samples,)):
        raise BadInput(
            f"augmentation: labels are {describe(labels)}; expected ({samples},) integers or "
            f"({samples}, {classes}) soft labels"
        )
    if soft:
        return labels
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= classes:
        raise BadInput(
            f"augmentation: labels go from {low} to {high}; expected 0 to {classes - 1}: check classes"
        )
    return F.one_hot(labels.long(), classes).float()


def _tensor_inputs(augment: Any, inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim > 0:
        return inputs
    raise BadInput(
        f"{type(augment).__name__}: inputs are {describe(inputs)}; expected a floating tensor, the samples "
        "first; for others pass a function of your own as augment="
    )


def _require_positive(augment: Any, **settings: float | int) -> None:
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise BadInput(f"{type(augment).__name__}: {name} is {value}; it must be above 0")
