"""Source `python:module.function`: samples or loaders that a function of the user's makes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.python_names import load_function
from wsi_kd.distillation.samples import UNKNOWN, ArrayInputs, Samples, numbered_classes
from wsi_kd.distillation.task import Data
from wsi_kd.kd.batches import describe

FORM = "(inputs, labels): arrays or tensors of one length, or wsi_kd.distillation.task.Data"


def call_python_source(name: str, arguments: Mapping[str, Any]) -> Samples | Data:
    """Call the function; of arrays it makes samples, loaders (`Data`) are handed on as they are.

    Raises:
        BadInput: a function that cannot be had or fails, or returns something else.
    """
    function = load_function(name)
    try:
        made: Any = function(**arguments)
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # the user's function may raise anything
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"data {name}: it failed with {what}") from None
    if isinstance(made, Data):
        return made
    if not (isinstance(made, tuple | list) and len(made) == 2):  # noqa: PLR2004  # inputs and labels
        raise BadInput(f"data {name}: it returned {describe(made)}; expected {FORM}")
    inputs, labels = _tensor(made[0], name), _tensor(made[1], name)
    plain = inputs.is_floating_point() or inputs.dtype == torch.uint8
    if not plain or inputs.ndim < 2 or labels.ndim != 1 or not 0 < len(labels) == len(inputs):  # noqa: PLR2004  # samples and values
        raise BadInput(
            f"data {name}: it returned {describe(inputs)} and {describe(labels)}; expected inputs "
            "(samples, ...), floating or uint8, and (samples,) integer labels"
        )
    classes = labels.numpy().astype(np.int64)
    if labels.is_floating_point() or classes.min() < UNKNOWN:
        raise BadInput(f"data {name}: labels are not integers 0, 1, ... (-1 where unknown)")
    if not inputs[0].numel() or not bool(inputs.float().isfinite().all()):
        raise BadInput(f"data {name}: inputs hold NaN, infinity or, of each sample, nothing")
    return Samples(ArrayInputs(inputs), classes, numbered_classes(classes, where=f"data {name}"))


def _tensor(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray):
        raise BadInput(f"data {name}: it returned {describe(value)} among its arrays; expected {FORM}")
    if isinstance(value, Tensor):
        return value.detach().to_dense().cpu()
    try:
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
    except TypeError:
        raise BadInput(f"data {name}: it returned an array of {value.dtype}; expected {FORM}") from None
