"""Losses by the names of a file, their options checked against their constructors."""

from collections.abc import Mapping
from typing import Any, Final

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.distillation.options import build
from wsi_kd.distillation.python_names import PREFIX, load_function
from wsi_kd.kd.outputs import DistillationLoss
from wsi_kd.kd.registry import LOSSES

OWN_KEYS: Final = ("type", "name", "weight", "layers", "schedule")
"""Keys of a criterion that are no option of its loss."""


def create_loss(kind: str, options: Mapping[str, Any]) -> DistillationLoss:
    """Build the loss of a name of `LOSSES`, or a class of the user's: `python:module.MyLoss`.

    Raises:
        BadInput: an unknown name or option, told with the nearest; a value that the loss cannot have.
    """
    make: Any = load_function(kind) if kind.startswith(PREFIX) else LOSSES.get(kind)
    if make is None:
        raise unknown_name("criterion", kind, LOSSES)
    if not (isinstance(make, type) and issubclass(make, DistillationLoss)):
        raise BadInput(f"criterion '{kind}': it is no DistillationLoss; docs/kd.md says how to add one")
    return build(make, options, what=f"criterion '{kind}'", beside=OWN_KEYS)
