"""Lets factor transfer check its paraphraser by the teacher, wherever the teacher's rest can be run alone."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from wsi_kd.distillation.task import Task
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.head import head_after
from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.training_step import network_outputs

TRIED: Final = 4
"""Random inputs on which the rest of the teacher must give the teacher's logits."""


def check_paraphrasers(task: Task) -> None:
    """Give each factor transfer of the task its teacher's head; those without one are checked without.

    Raises:
        BadInput: a layer that the teacher has not.
    """
    for name, (loss, _) in task.criteria.items():
        if isinstance(loss, FactorTransferLoss) and name in task.layers and len(task.teachers) == 1:
            layer = task.layers[name][1]
            head = rest_of(task.teachers[0], str(layer), input_shape=task.data.input_shape)
            if head is not None:
                loss.check_by(head)


@torch.no_grad()
def rest_of(
    network: nn.Module, layer: str, *, input_shape: tuple[int, ...]
) -> Callable[[Tensor], Tensor] | None:
    """Return the network behind a layer, or None where a branch goes around it or it runs several times.

    Raises:
        BadInput: there is no such layer.
    """
    if "@" in layer:
        return None
    device = next(network.parameters()).device
    head = head_after(network, layer, probe=torch.zeros(1, *input_shape, device=device))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(TRIED, *input_shape, generator=generator).to(device)
    with quiet(network):
        outputs = network_outputs(network, inputs, layers={layer: layer}, logits_of=None, who="the teacher")
    found = head(outputs.features[layer])
    return head if torch.allclose(found, outputs.logits, rtol=1e-3, atol=1e-4) else None
