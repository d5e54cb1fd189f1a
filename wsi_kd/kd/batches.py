"""Batches of any loader, read in one form; networks of any signature, called in one way."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, WsiKdError

Adapter: TypeAlias = Callable[[Any], Any]
"""Turns what a loader yields into (inputs, labels); labels may be None."""
KEYS: Final = (("inputs", "labels"), ("x", "y"))
AXES: Final = ("samples", "classes")
REMEDY: Final = "pass adapter=, a function from a batch to (inputs, labels)"


class Batch(NamedTuple):
    """One batch on the device."""

    inputs: Any
    """A tensor: the network is called with it; a tuple: with its items; a mapping: with its keywords."""
    labels: Tensor | None
    """(samples,) int64 classes or (samples, classes) soft labels, still where the loader put them."""


def read_batch(raw: Any, *, adapter: Adapter | None, device: torch.device) -> Batch:
    """Read a batch: (inputs, labels), {"inputs", "labels"}, {"x", "y"}, inputs alone, or through `adapter`.

    Raises:
        BadInput: another form.
    """
    if adapter is not None:
        raw = adapter(raw)
        if not (isinstance(raw, tuple | list) and len(raw) == len(Batch._fields)):
            raise BadInput(
                f"adapter returned {describe(raw)}; expected (inputs, labels), labels None if unknown"
            )
    inputs, labels = _parts(raw)
    if labels is not None and not isinstance(labels, Tensor):
        raise BadInput(f"labels are {describe(labels)}; expected a tensor or None; {REMEDY}")
    if labels is not None and not labels.is_floating_point():
        labels = labels.long()
    return Batch(_on_device(inputs, device), labels)


def walk(loader: Iterable[Any], *, what: str) -> Iterator[Any]:
    """Yield the batches of a loader; one that can be walked only once, or is empty, is refused.

    Raises:
        BadInput: see above; `what` names the loader.
    """
    batches = iter(loader)
    if batches is loader:
        raise BadInput(
            f"{what}: {type(loader).__name__} can be walked only once; pass a DataLoader or a list of batches"
        )
    empty = True
    try:
        for batch in batches:
            empty = False
            yield batch
    except WsiKdError as error:
        raise type(error)(_without_traceback(str(error), type(error).__name__)) from None
    if empty:
        raise BadInput(
            f"{what}: it yielded no batch; check its data set, and drop_last against the batch size"
        )


def _without_traceback(told: str, kind: str) -> str:
    """Return the line of an error of ours; from a loader's process it comes with a traceback as text."""
    return told.rpartition(f"errors.{kind}: ")[2].strip()


def call(network: nn.Module, inputs: Any) -> Any:
    """Call a network with a tensor, the items of a tuple, or the keywords of a mapping."""
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple | list) else network(inputs)


def find_logits(given: Any) -> Any:
    """Find the logits in what a network gave: the tensor itself, its member or its attribute `logits`."""
    if isinstance(given, Mapping):
        return given.get("logits")
    return given if isinstance(given, Tensor) else getattr(given, "logits", None)


def check_logits(logits: Any, given: Any, *, who: str) -> Tensor:
    """Return `logits` if they are (samples, classes) floating numbers.

    Raises:
        BadInput: they are something else; `who` names the network, `given` is all it gave.
    """
    if isinstance(logits, Tensor) and logits.ndim == len(AXES) and logits.is_floating_point():
        return logits
    found = describe(given if logits is None else logits)
    raise BadInput(
        f"{who} gave {found}; expected floating logits (samples, classes): pass logits_of=, a function "
        "from what the networks give to their logits"
    )


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Check that labels fit the logits.

    Raises:
        BadInput: another number of samples or classes, classes outside of 0 .. classes - 1.
    """
    samples, classes = logits.shape
    expected = f"expected ({samples},) integers of 0 to {classes - 1} or ({samples}, {classes}) soft labels"
    soft = labels.is_floating_point()
    if tuple(labels.shape) != ((samples, classes) if soft else (samples,)):
        raise BadInput(f"labels are {describe(labels)}; {expected}; {REMEDY}")
    # on a GPU the question would wait for all work in flight, and the answer is there with the loss
    if not soft and labels.device.type == "cpu" and samples:
        low, high = (int(value) for value in labels.aminmax())
        if low < 0 or high >= classes:
            raise BadInput(
                f"labels go from {low} to {high}; {expected}; give the student an output for each class"
            )


def describe(value: Any) -> str:
    """Say in few words what a value is.

    >>> describe((torch.zeros(2, 3), "a"))
    'a tuple of 2 (float32 tensor (2, 3), str)'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, tuple | list):
        shown = ", ".join(
            describe(item) if isinstance(item, Tensor) else type(item).__name__ for item in value[:4]
        )
        return f"a {type(value).__name__} of {len(value)} ({shown})"
    return f"{type(value).__name__}"


def _parts(raw: Any) -> tuple[Any, Any]:
    if isinstance(raw, Tensor):
        return raw, None
    if isinstance(raw, Mapping):
        for inputs, labels in KEYS:
            if inputs in raw and not set(raw) - {inputs, labels}:
                return raw[inputs], raw.get(labels)
    elif isinstance(raw, tuple | list) and 1 <= len(raw) <= len(Batch._fields):
        return raw[0], raw[1] if len(raw) > 1 else None
    forms = '(inputs, labels), {"inputs", "labels"} or {"x", "y"}'
    raise BadInput(f"the loader yielded {describe(raw)}; expected {forms}; {REMEDY}")


def _on_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _on_device(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_on_device(item, device) for item in value)
    return value
