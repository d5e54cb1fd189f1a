"""Scores of finished networks, and what can be hooked in them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import Batch, read_batch, walk
from wsi_kd.kd.evaluation import Evaluation, evaluate, quiet
from wsi_kd.kd.training_step import Step


def score(network: nn.Module, loader: DataLoader[Any], *, device: str, who: str) -> Evaluation:
    """Return accuracy and cross entropy of a network on a part with labels; it stays on the device.

    Raises:
        BadInput: batches without labels, labels or logits that do not fit.
        RunFailed: logits that are not finite.
    """
    place = choose_device(device)
    batches = (read_batch(raw, adapter=None, device=place) for raw in walk(loader, what="the test part"))
    return evaluate(network.to(place), batches, logits_of=None, who=who, unlabeled=_refuse)


class LayerShape(NamedTuple):
    """A place that a loss on features can read."""

    name: str
    """As `layers` of a criterion wants it; of a layer that runs several times, one name a run."""
    kind: str
    shape: tuple[int, ...]
    """Of its output, without the samples' axis."""


@torch.no_grad()
def layer_shapes(network: nn.Module, input_shape: Sequence[int]) -> list[LayerShape]:
    """Return the layers that give a tensor in a forward pass, in the order of their first output.

    >>> [layer.shape for layer in layer_shapes(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), (3,))]
    [(2,), (2,)]
    """
    heard: dict[str, list[LayerShape]] = {}

    def listen(name: str) -> Any:
        def hear(layer: nn.Module, inputs: Any, output: Any) -> None:
            del inputs
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor):
                found = LayerShape(name, type(layer).__name__, tuple(first.shape[1:]))
                heard.setdefault(name, []).append(found)

        return hear

    named = [(name, layer) for name, layer in network.named_modules(remove_duplicate=False) if name]
    handles = [layer.register_forward_hook(listen(name)) for name, layer in named]
    try:
        with quiet(network):
            network(torch.zeros(2, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return [
        run._replace(name=name if len(runs) == 1 else f"{name}@{number}")
        for name, runs in heard.items()
        for number, run in enumerate(runs)
    ]


def _refuse(batch: Batch) -> Step:
    del batch
    raise BadInput("the test part has a batch without labels; label it, or leave those samples out")
