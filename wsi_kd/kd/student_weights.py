"""The student as it is or as it was at its best: for a while, or in a file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.tensors import publish_tensors
from wsi_kd.kd.fit_state import FitState, portable, tensors_of
from wsi_kd.kd.taps import unwrap

Which: TypeAlias = Literal["last", "best"]


@contextmanager
def holding(state: FitState | None, *, which: Which) -> Iterator[None]:
    """Give student and losses the weights asked for, and their own back afterwards.

    Raises:
        BadInput: there is no best epoch yet.
    """
    if which not in {"last", "best"}:
        raise BadInput(f"which is '{which}'; expected last or best")
    if which == "last":
        yield
        return
    if state is None or state.best is None:
        raise BadInput(
            "no epoch was trained and validated, so none is the best; call fit, or use which='last'"
        )
    places = (unwrap(state.learners.student), state.learners.losses)
    own = [portable(tensors_of(module)) for module in places]
    for module, weights in zip(places, (state.best.weights, state.best.losses), strict=True):
        module.load_state_dict(weights)
    try:
        yield
    finally:
        for module, weights in zip(places, own, strict=True):
            module.load_state_dict(weights)


def write_student(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights as safetensors.

    Raises:
        RunFailed: a full disk.
    """
    publish_tensors(path, weights, metadata={"format": "pt"})
