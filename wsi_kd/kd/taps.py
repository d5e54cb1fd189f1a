"""What named layers give while a network runs, without a change to the network.

Names are those of `named_modules()`. What a wrapper puts before or between them (`module.` of DataParallel
and DistributedDataParallel, `_orig_mod.` of torch.compile) may be there or not.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Final, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wsi_kd.core.errors import BadInput, unknown_name

COMPILED: Final = "_orig_mod"
WRAPPED: Final = "module"
NEAREST: Final = 8
"""Most names that an error lists; a network may have hundreds."""


class Tap(NamedTuple):
    """One place to listen at."""

    layer: nn.Module
    call: int | None
    """Which run of the layer within a forward pass; None: it must run once."""


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, COMPILED, None), nn.Module):
            model = getattr(model, COMPILED)
        else:
            return model


class LayerTaps:
    """Listen at layers by name; a context manager that takes its hooks away whatever happens.

    Inside it every forward pass of `model` starts afresh, so that `take` tells of the last one. Outputs are
    copied as they leave the layer: an operation in place behind it (`relu_`, `+=` of a residual branch) would
    change them. Of a tuple (recurrent layers, attention) the first item is taken.

    A layer that runs several times in one pass (a shared one, a loop) is named with the run meant: `block@0`
    is its first. One module under two names is heard under both.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with LayerTaps(network, ["0"]) as taps:
    ...     _ = network(torch.ones(1, 2))
    ...     taps.take()["0"].shape
    torch.Size([1, 3])

    Raises:
        BadInput: `model` has no such layer; at `take`, a layer that did not run, ran more often than its name
            allows for, or gave no tensor.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], *, who: str = "the model") -> None:
        self._model = model
        self._who = who
        self._taps = {name: find_layer(model, name, who=who) for name in names}
        self._heard: dict[int, list[Any]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "LayerTaps":
        if self._handles:
            raise RuntimeError("these taps are already open")
        # prepended: a hook of the caller's that runs the network itself must not be mixed up with ours
        self._handles = [self._model.register_forward_pre_hook(self._start, prepend=True)]
        layers = {id(tap.layer): tap.layer for tap in self._taps.values()}
        self._handles += [layer.register_forward_hook(self._hear) for layer in layers.values()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._heard = [], {}

    def take(self) -> dict[str, Tensor]:
        """Return each name's output of the last forward pass."""
        return {name: self._output(name, tap) for name, tap in self._taps.items()}

    def _start(self, model: nn.Module, inputs: Any) -> None:
        del model, inputs
        self._heard = {}

    def _hear(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        first = output[0] if isinstance(output, tuple | list) and output else output
        self._heard.setdefault(id(layer), []).append(
            first.clone() if isinstance(first, Tensor) else type(output)
        )

    def _output(self, name: str, tap: Tap) -> Tensor:
        runs = self._heard.get(id(tap.layer), [])
        where = f"layer '{name}' of {self._who}"
        if len(runs) <= (tap.call or 0):
            raise BadInput(
                f"{where}: it ran {len(runs)} times in the last forward pass; name one that the network "
                "calls, and compile a network only after it was tapped"
            )
        if tap.call is None and len(runs) > 1:
            raise BadInput(
                f"{where}: it ran {len(runs)} times in one forward pass; say which run is meant: "
                f"'{name}@0' to '{name}@{len(runs) - 1}'"
            )
        output = runs[tap.call or 0]
        if not isinstance(output, Tensor):
            found = output.__name__
            raise BadInput(f"{where}: it gives {found}, expected a tensor; name a layer inside it")
        return output


def find_layer(model: nn.Module, name: str, *, who: str) -> Tap:
    """Return the layer of a name, which of its runs is meant, or why there is none.

    Raises:
        BadInput: there is no such layer; the near names are told.
    """
    inner = unwrap(model)
    layers = {_bare(path): layer for path, layer in inner.named_modules(remove_duplicate=False) if path}
    wanted, _, call = name.partition("@")
    wanted = _bare(wanted)
    while wanted not in layers and wanted.startswith(f"{WRAPPED}."):
        wanted = wanted.removeprefix(f"{WRAPPED}.")
    if wanted not in layers or (call and not call.isdigit()) or name.endswith("@"):
        raise _unknown_layer(name, layers, who=f"{who} ({type(inner).__name__})")
    return Tap(layers[wanted], int(call) if call else None)


def _bare(path: str) -> str:
    """Drop what torch.compile puts into a path; no layer of a user's has that name."""
    return ".".join(part for part in path.split(".") if part != COMPILED)


def _unknown_layer(name: str, layers: Iterable[str], *, who: str) -> BadInput:
    known = list(layers)
    near = get_close_matches(name, known, n=NEAREST, cutoff=0.0)
    told = unknown_name(f"layer of {who}", name, near)
    return BadInput(f"{told}; these are the nearest of {len(known)}") if len(known) > len(near) else told
