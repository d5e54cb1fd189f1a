"""What a network makes of a layer's output: the rest of it as a function of features."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import call, check_logits, find_logits
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.taps import find_layer


def head_after(network: nn.Module, layer: str, *, probe: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a layer's output to the network's logits, without gradient, in eval mode.

    The network runs on `probe`, repeated, and the layer's output is replaced. Where a branch goes around the
    layer, the logits depend on the probe as well, and are not those of the network: compare them first.

    Args:
        network: gives logits, or something that has them; its mode is put back after every call.
        layer: its name; it must run once.
        probe: (1, ...) inputs of one sample.

    Raises:
        BadInput: no such layer, or a run of it (`block@1`); at a call, no logits.

    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> head = head_after(network, "1", probe=torch.zeros(1, 2))
    >>> torch.equal(head(torch.ones(4, 3)), network[2](torch.ones(4, 3)))
    True
    """
    tap = find_layer(network, layer, who="the teacher")
    if tap.call is not None:
        raise BadInput(f"layer '{layer}': one run of several cannot be replaced; name a layer that runs once")
    return _Head(network, tap.layer, probe=probe)


class _Head:
    """No nn.Module: whatever holds it must not own the network's parameters."""

    def __init__(self, network: nn.Module, layer: nn.Module, *, probe: Tensor) -> None:
        self._network, self._layer, self._probe = network, layer, probe

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        inputs = self._probe.to(features.device).expand(len(features), *self._probe.shape[1:])
        handle = self._layer.register_forward_hook(lambda *_: features)
        try:
            with quiet(self._network):
                given: Any = call(self._network, inputs)
        finally:
            handle.remove()
        return check_logits(find_logits(given), given, who="the teacher")
