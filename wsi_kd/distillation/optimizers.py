"""Optimizers and schedules by name, from plain values."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.distillation.task import MakeOptimizer
from wsi_kd.features.torchvision_import import import_timm
from wsi_kd.kd.schedules import Constant, Cosine, Linear, Schedule, Steps, WarmupCosine

SCHEDULES: Final[Mapping[str, Callable[..., Schedule]]] = {
    "constant": Constant,
    "cosine": Cosine,
    "linear": Linear,
    "steps": Steps,
    "warmup_cosine": WarmupCosine,
}
LAMB: Final = "lamb"
OPTIMIZERS: Final[Mapping[str, Callable[..., torch.optim.Optimizer]]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def create_schedule(name: str, options: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a name, its fields from `options`.

    Raises:
        BadInput: an unknown name, a span that ends before it begins.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    return SCHEDULES[name](**options)


def optimizer_factory(name: str, options: Mapping[str, Any], *, learning_rate: float) -> MakeOptimizer:
    """Return a function from parameters to their optimizer; `lamb` is timm's.

    Raises:
        BadInput: an unknown name; nesterov without momentum.
    """
    if name not in {*OPTIMIZERS, LAMB}:
        raise unknown_name("optimizer", name, {*OPTIMIZERS, LAMB})
    if options.get("nesterov") and not options.get("momentum"):
        raise BadInput(f"optimizer {name}: nesterov needs a momentum above 0; raise it or leave nesterov out")
    return partial(_make, kind=name, options={"lr": learning_rate, **options})


def _make(parameters: list[nn.Parameter], *, kind: str, options: dict[str, Any]) -> torch.optim.Optimizer:
    make = _lamb() if kind == LAMB else OPTIMIZERS[kind]
    return make(parameters, **options)


def _lamb() -> Callable[..., torch.optim.Optimizer]:
    import_timm()  # first: it makes torchvision importable
    make: Callable[..., torch.optim.Optimizer] = importlib.import_module("timm.optim").Lamb
    return make
