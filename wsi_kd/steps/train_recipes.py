"""Recipes by name: what each takes from section `train`, and the model that it makes."""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import (
    plan_architecture,
    plan_compression,
    plan_distillation,
    plan_masking,
    plan_mining,
    plan_prototyping,
    small_architecture,
)
from wsi_kd.training.loop import Trained
from wsi_kd.training.plan import Architecture
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.auto import train_auto
from wsi_kd.training.recipes.distill import train_distill
from wsi_kd.training.recipes.ins import train_ins
from wsi_kd.training.recipes.instance import pooled_architecture, train_instance
from wsi_kd.training.recipes.mhim import train_mhim
from wsi_kd.training.recipes.weno import train_weno

Train: TypeAlias = Callable[..., Trained]
"""A recipe that knows its own settings; it still takes the parts and what all recipes share."""


def _weno(settings: TrainSettings) -> Train:
    return partial(train_weno, distillation=plan_distillation(settings), mining=plan_mining(settings))


def _instance(settings: TrainSettings) -> Train:
    return partial(train_instance, pooling=settings.instance.pooling)


def _ins(settings: TrainSettings) -> Train:
    return partial(train_ins, prototyping=plan_prototyping(settings))


def _mhim(settings: TrainSettings) -> Train:
    return partial(train_mhim, masking=plan_masking(settings))


def _auto(settings: TrainSettings) -> Train:
    return partial(
        train_auto,
        distillation=plan_distillation(settings),
        mining=plan_mining(settings),
        tolerance=settings.auto.tolerance,
    )


def _distill(settings: TrainSettings) -> Train:
    return partial(train_distill, compression=plan_compression(settings))


RECIPES: Final[dict[str, Callable[[TrainSettings], Train]]] = {
    "abmil": lambda _: train_abmil,
    "weno": _weno,
    "instance": _instance,
    "ins": _ins,
    "mhim": _mhim,
    "auto": _auto,
    "distill": _distill,
}


def recipe_architecture(recipe: str, settings: TrainSettings) -> Architecture:
    """Return the shape of the model that the recipe makes: two of them pool, one is small."""
    if recipe == "distill":
        return small_architecture(settings)
    architecture = plan_architecture(settings)
    if recipe == "instance":
        return pooled_architecture(architecture, settings.instance.pooling)
    if recipe == "ins":
        return pooled_architecture(architecture, settings.ins.pooling)
    return architecture
