"""The one place that imports timm and torchvision.

timm needs torchvision, and torchvision's compiled operators may not load beside a CPU build of torch: its
import then fails because `torchvision::nms` has no schema. Declaring the two missing schemas makes the import
succeed; the operators themselves (non-maximum suppression of boxes) stay absent, and no encoder uses them.
"""

import importlib
import sys
import warnings
from functools import cache
from types import ModuleType

import torch

MISSING_OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def import_timm() -> ModuleType:
    """Import timm, with torchvision made importable first."""
    import_torchvision()
    with _no_import_warnings():
        return importlib.import_module("timm")


@cache
def import_torchvision() -> ModuleType:
    """Import torchvision; where its operators do not load, declare the missing schemas and import again.

    Raises:
        RuntimeError: torchvision fails for another reason; that is a broken installation.
    """
    with _no_import_warnings():
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
        _forget("torchvision")
        _declare_operators()
        return importlib.import_module("torchvision")


def _forget(package: str) -> None:
    """Remove what a failed import left behind, so that the next one starts anew."""
    for name in [name for name in sys.modules if name.split(".", 1)[0] == package]:
        del sys.modules[name]


@cache
def _declare_operators() -> torch.library.Library:
    """Declare the schemas; the cache keeps the library alive, which keeps the schemas declared."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in MISSING_OPERATORS:
        library.define(f"{name}{SCHEMA}")  # type: ignore[no-untyped-call]
    return library


def _no_import_warnings() -> warnings.catch_warnings:
    """Silence what these packages say while loading (no image extension); no encoder reads files by them."""
    return warnings.catch_warnings(action="ignore")
