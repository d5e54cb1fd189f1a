"""Method plain: the weighted sum of the criteria, minimized by one optimizer; most losses need no other."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from torch.utils.data import DataLoader

from wsi_kd.distillation.paraphraser_check import check_paraphrasers
from wsi_kd.distillation.task import Outcome, Task, distiller_of
from wsi_kd.kd.outputs import LABELS


class Interleaved:
    """Walks two loaders in turn: one batch of each while both last, then the rest of the longer one."""

    def __init__(self, first: DataLoader[Any], second: DataLoader[Any]) -> None:
        self._loaders = (first, second)

    def __iter__(self) -> Iterator[Any]:
        for pair in zip_longest(*self._loaders):
            yield from (batch for batch in pair if batch is not None)


def distill_plain(task: Task, *, unlabeled: bool) -> Outcome:
    """Train the student on the criteria with a `Distiller`.

    `unlabeled` says whether the batches without labels are walked too, in turn with the labeled ones;
    criteria that need labels skip them, and where all need some they are not walked.

    Raises:
        BadInput, RunFailed: as `Distiller.fit`.
    """
    data, plan = task.data, task.plan
    check_paraphrasers(task)
    distiller = distiller_of(task)
    useful = any(LABELS not in loss.needs and weight > 0 for loss, weight in task.criteria.values())
    result = distiller.fit(
        Interleaved(data.train, data.unlabeled) if unlabeled and useful and data.unlabeled else data.train,
        data.val,
        epochs=plan.epochs,
        state_path=task.state_path,
        on_epoch=task.on_epoch,
    )
    return Outcome(
        history=result.history,
        best=result.best,
        last=result.last,
        best_epoch=result.best_epoch,
        weights=distiller.student_state(which="best"),
        told=dict(result.pretrained),
    )
