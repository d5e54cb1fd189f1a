"""The validation loss that teaches a dynamic loss, and the samples that it may be of."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, Subset

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.batches import check_labels
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.networks import STUDENT
from wsi_kd.kd.reading import Reading
from wsi_kd.kd.training_step import network_outputs


class ValidationLoss(nn.Module):
    """e: cross entropy of a student with the labels of a batch that is not augmented; eval mode.

    Dropout is off, and batch norm uses its running statistics and leaves them as they are.
    """

    def __init__(self, student: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.student, self._reading = student, reading

    def of(self, parameters: Mapping[str, Tensor], raw: Any) -> Float[Tensor, ""]:
        """Return e at parameters ("student.0.weight", ...), with gradient in them.

        Raises:
            BadInput: a batch without labels, or with some that do not fit.
            RunFailed: it is not finite.
        """
        own = {name: value for name, value in parameters.items() if name.startswith("student.")}
        with quiet(self.student):
            value: Tensor = functional_call(self, own, (raw,))
        if not bool(value.detach().isfinite()):
            raise RunFailed(
                "the student's loss on the teaching part is not finite; lower the student's learning rate or "
                "the teacher's scale"
            )
        return value

    def forward(self, raw: Any) -> Float[Tensor, ""]:
        """Return e at the student's own parameters, in the mode that it is in."""
        device = next(self.student.parameters()).device
        batch = self._reading.batch(raw, device=device, training=False)
        if batch.labels is None:
            raise BadInput("teaching_loader: a batch has no labels, and the loss is taught by them")
        logits_of = self._reading.logits_of
        logits = network_outputs(
            self.student, batch.inputs, layers={}, logits_of=logits_of, who=STUDENT
        ).logits
        check_labels(batch.labels, logits)
        return F.cross_entropy(logits, batch.labels.to(logits.device))


def check_apart(teaching_loader: Iterable[Any], val_loader: Iterable[Any]) -> None:
    """Check, as far as loaders show it, that no sample teaches the loss and chooses the best epoch too.

    Raises:
        BadInput: they are one loader or one data set, or subsets of one that share samples.
    """
    shared = teaching_loader is val_loader
    if isinstance(teaching_loader, DataLoader) and isinstance(val_loader, DataLoader):
        shared = shared or _share(teaching_loader.dataset, val_loader.dataset)
    if shared:
        raise BadInput(
            "teaching_loader and val_loader share samples: what teaches the loss would choose the best epoch "
            "too; split the validation part in two"
        )


def _share(one: Dataset[Any], other: Dataset[Any]) -> bool:
    if isinstance(one, Subset) and isinstance(other, Subset) and one.dataset is other.dataset:
        return not set(one.indices).isdisjoint(other.indices)
    inside = [part.dataset for part in (one, other) if isinstance(part, Subset)]
    return one is other or any(whole is one or whole is other for whole in inside)
