"""How well a network tells the classes: accuracy and cross entropy, without any teacher."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.batches import REMEDY, Batch, check_labels
from wsi_kd.kd.training_step import LogitsOf, network_outputs


class Evaluation(NamedTuple):
    """What a loader's samples say of a network."""

    accuracy: float
    """Share of samples whose largest logit is that of their label (of soft labels, the largest)."""
    loss: float
    """Cross entropy with the labels, mean over the samples."""
    samples: int

    def beats(self, other: "Evaluation | None") -> bool:
        """Whether this is the better one: by accuracy, at the same by loss."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@torch.no_grad()
def evaluate(
    network: nn.Module, batches: Iterable[Batch], *, logits_of: LogitsOf | None, who: str
) -> Evaluation:
    """Score a network in eval mode; afterwards each of its modules is in the mode that it was in.

    Raises:
        BadInput: a batch without labels, or with some that do not fit.
        RunFailed: logits that are not finite.
    """
    right, total, samples = 0, 0.0, 0
    with quiet(network):
        for batch in batches:
            if batch.labels is None:
                raise BadInput(f"evaluation: a batch has no labels; {REMEDY}")
            outputs = network_outputs(network, batch.inputs, layers={}, logits_of=logits_of, who=who)
            check_labels(batch.labels, outputs.logits)
            labels = batch.labels.to(outputs.logits.device)
            total += F.cross_entropy(outputs.logits.float(), labels, reduction="sum").item()
            right += int((outputs.logits.argmax(dim=1) == _classes(labels)).sum())
            samples += len(labels)
    if not math.isfinite(total):
        raise RunFailed(
            f"{who} gave logits that are not finite; it has diverged, or its inputs hold such values"
        )
    return Evaluation(right / samples, total / samples, samples)


@contextmanager
def quiet(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and each module of it back into its own afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _classes(labels: Tensor) -> Tensor:
    return labels.argmax(dim=1) if labels.is_floating_point() else labels
