"""Whole-slide images and slide labels in; a WENO classifier, its heatmaps and its limits out.

Research only: not for diagnosis. `wsi_kd.Predictor` scores slides from Python.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `Predictor` when it is first asked for: torch costs seconds that no other import should pay."""
    if name == "Predictor":
        return import_module("wsi_kd.steps.predictor").Predictor
    message = f"module 'wsi_kd' has no attribute '{name}'"
    raise AttributeError(message)
