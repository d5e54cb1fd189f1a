"""How well a network does on a loader: by its labels, or without any by what it is distilled with."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.batches import REMEDY, Batch, check_labels
from wsi_kd.kd.training_step import LogitsOf, Step, network_outputs


class Evaluation(NamedTuple):
    """What a loader's samples say of a network."""

    accuracy: float | None
    """Share of samples whose largest logit is that of their label (of soft labels, the largest); None where
    the loader has no labels."""
    loss: float
    """Cross entropy with the labels, mean over the samples; without labels the weighted sum of the criteria
    that need none, mean over the samples."""
    samples: int

    def beats(self, other: "Evaluation | None") -> bool:
        """Whether this is the better one: by accuracy, at the same by loss; without labels by loss alone.

        Raises:
            BadInput: one has labels and the other none.
        """
        if other is None:
            return True
        if self.accuracy is None and other.accuracy is None:
            return self.loss < other.loss
        if self.accuracy is None or other.accuracy is None:
            raise BadInput(
                "an evaluation with labels cannot be compared with one without; pass the val_loader that the "
                "earlier epochs had"
            )
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


class _Sums(NamedTuple):
    """Of one batch."""

    right: int
    loss: float
    samples: int


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    logits_of: LogitsOf | None,
    who: str,
    unlabeled: Callable[[Batch], Step],
) -> Evaluation:
    """Score a network in eval mode; afterwards each of its modules is in the mode that it was in.

    `unlabeled` says what a batch without labels comes to.

    Raises:
        BadInput: some batches have labels and others none; labels that do not fit; as `unlabeled`.
        RunFailed: logits that are not finite.
    """
    labeled: bool | None = None
    sums = []
    with quiet(network):
        for batch in batches:
            if labeled not in {None, batch.labels is not None}:
                raise BadInput(f"evaluation: some batches have labels and others have none; {REMEDY}")
            labeled = batch.labels is not None
            if batch.labels is None:
                step = unlabeled(batch)
                sums.append(_Sums(0, step.loss.item() * len(step.logits), len(step.logits)))
            else:
                outputs = network_outputs(network, batch.inputs, layers={}, logits_of=logits_of, who=who)
                sums.append(_score(outputs.logits, batch.labels))
    right, total, samples = (sum(part) for part in zip(*sums, strict=True))
    if not math.isfinite(total):
        raise RunFailed(
            f"{who} gave logits that are not finite; it has diverged, or its inputs hold such values"
        )
    return Evaluation(right / samples if labeled else None, total / samples, int(samples))


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


def _score(logits: Tensor, labels: Tensor) -> _Sums:
    check_labels(labels, logits)
    placed = labels.to(logits.device)
    classes = placed.argmax(dim=1) if placed.is_floating_point() else placed
    right = int((logits.argmax(dim=1) == classes).sum())
    return _Sums(right, F.cross_entropy(logits.float(), placed, reduction="sum").item(), len(labels))
