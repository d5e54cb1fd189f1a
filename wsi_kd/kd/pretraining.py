"""Before the student learns: losses that learn something of the teacher first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.batches import walk
from wsi_kd.kd.criteria import Criterion
from wsi_kd.kd.networks import run_teachers
from wsi_kd.kd.outputs import TRAIN, VAL
from wsi_kd.kd.reading import Reading
from wsi_kd.kd.training_step import check_teachers, teachers_of


@dataclass(frozen=True)
class Seen:
    """What a loss sees of a loader: (teacher, labels) a batch; each walk runs the teachers anew.

    Batches of the training part are augmented as in the training. Of the validation part every batch must
    have labels: what is learned there is how far the teacher can be trusted.
    """

    criterion: Criterion
    teachers: Sequence[nn.Module]
    loader: Iterable[Any]
    reading: Reading
    device: torch.device

    def __iter__(self) -> Iterator[tuple[Any, Tensor | None]]:
        part = self.criterion.loss.learns_from
        for raw in walk(self.loader, what=f"{part}_loader"):
            batch = self.reading.batch(raw, device=self.device, training=part == TRAIN)
            if part == VAL and batch.labels is None:
                raise BadInput(
                    "it learns from the labels of the validation part, and a batch of val_loader has none; "
                    "pass a val_loader with labels"
                )
            outputs = run_teachers(self.teachers, batch, criteria=[self.criterion], reading=self.reading)
            check_teachers(outputs)
            labels = None if batch.labels is None else batch.labels.to(self.device)
            yield teachers_of(self.criterion, outputs), labels


def pretrain_losses(
    criteria: Sequence[Criterion],
    teachers: Sequence[nn.Module],
    loaders: Mapping[str, Iterable[Any]],
    *,
    reading: Reading,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Let each loss that says so learn from the loader it asks for; return their figures by criterion.

    Raises:
        BadInput: what the losses raise, told with criterion and layers; validation batches without labels; a
            teacher whose outputs are not finite.
        RunFailed: as well.
    """
    told = {}
    for criterion in criteria:
        part = criterion.loss.learns_from
        if not part:
            continue
        try:
            figures = criterion.loss.pretrain(Seen(criterion, teachers, loaders[part], reading, device))
        except (BadInput, RunFailed) as error:
            raise type(error)(f"{criterion.described}: {error}") from None
        told[criterion.name] = {name: float(value) for name, value in figures.items()}
    return told
