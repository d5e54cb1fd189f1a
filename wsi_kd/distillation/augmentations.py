"""Augmentations by name, from plain values.

`wsi_kd.kd.augmentation` says what mixup, cutmix, noise and one_of do, `image_augmentations` the others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from wsi_kd.core.errors import unknown_name
from wsi_kd.distillation.image_augmentations import RandAugment, RandomCrop
from wsi_kd.kd.augmentation import Augment, CutMix, GaussianNoise, InOrder, Mixup, OneOf

ONE_OF: Final = "one_of"
MIXING: Final[Mapping[str, Callable[..., Augment]]] = {"cutmix": CutMix, "mixup": Mixup}
"""Those that make soft labels, and so know the number of classes."""
SINGLE: Final[Mapping[str, Callable[..., Augment]]] = {
    "noise": GaussianNoise,
    "rand_augment": RandAugment,
    "random_crop": RandomCrop,
}
"""Those that look at each sample alone."""


def create_augment(parts: Sequence[Mapping[str, Any]], *, classes: int) -> Augment | None:
    """Return the augmentations one after another; none: None.

    Each part has a `name` and its options; of `one_of` those are `choices`.

    Raises:
        BadInput: an unknown name, a value that it cannot have.
    """
    made = tuple(_create(part, classes=classes) for part in parts)
    if len(made) > 1:
        return InOrder(made)
    return made[0] if made else None


def _create(part: Mapping[str, Any], *, classes: int) -> Augment:
    options = {key: value for key, value in part.items() if key != "name"}
    name = part["name"]
    if name in MIXING:
        return MIXING[name](classes=classes, **options)
    if name in SINGLE:
        return SINGLE[name](**options)
    if name == ONE_OF:
        return OneOf(tuple(_create(choice, classes=classes) for choice in options["choices"]))
    raise unknown_name("augmentation", name, [*MIXING, *SINGLE, ONE_OF])
