"""What a distillation came to: scores of student and teachers on the test part, and what each costs."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wsi_kd.distillation.data import Prepared
from wsi_kd.distillation.scoring import score
from wsi_kd.distillation.task import Outcome
from wsi_kd.distillation.teachers import Teacher
from wsi_kd.kd.batches import read_batch
from wsi_kd.kd.cost import measure_cost
from wsi_kd.kd.evaluation import Evaluation


class Ready(NamedTuple):
    """All that stands before the student learns."""

    prepared: Prepared
    student: nn.Module
    teachers: list[Teacher]
    first_sha256: str
    """Of the weights that the student starts from."""


class Trained(NamedTuple):
    """What stands afterwards."""

    outcome: Outcome
    last: dict[str, Tensor]
    """Weights of the last epoch's student, on the CPU."""


class Scored(NamedTuple):
    """On the test part."""

    best: Evaluation
    last: Evaluation
    teachers: list[Evaluation]


def score_all(ready: Ready, trained: Trained, *, device: str) -> Scored:
    """Score the student of the best and of the last epoch, and the teachers; the best's weights stay in it.

    Raises:
        BadInput: a test part without labels.
    """
    test, student = ready.prepared.data.test, ready.student
    student.load_state_dict(trained.last)
    last = score(student, test, device=device, who="the student")
    student.load_state_dict(trained.outcome.weights)
    best = score(student, test, device=device, who="the student")
    teachers = [
        score(teacher.network, test, device=device, who=f"teacher {number}")
        for number, teacher in enumerate(ready.teachers, start=1)
    ]
    return Scored(best, last, teachers)


def tell_result(ready: Ready, trained: Trained, scored: Scored, *, method: str, out: Path) -> dict[str, Any]:
    """Return all of it as JSON knows it; costs are of one sample at a time on one CPU core."""
    outcome, data = trained.outcome, ready.prepared.data
    sample = read_batch(next(iter(data.test)), adapter=None, device=torch.device("cpu")).inputs[:1]
    sizes = {"train": data.train, "unlabeled": data.unlabeled, "val": data.val, "test": data.test}
    return {
        "data": {
            "fingerprint": ready.prepared.fingerprint,
            "samples": {name: part and _size(part) for name, part in sizes.items()},
        },
        "method": {"name": method, "told": outcome.told},
        "student": {
            "first_sha256": ready.first_sha256,
            "best_epoch": outcome.best_epoch,
            "best": {"validation": outcome.best._asdict(), "test": scored.best._asdict()},
            "last": {"validation": outcome.last._asdict(), "test": scored.last._asdict()},
            "cost": measure_cost(ready.student, sample)._asdict(),
        },
        "teachers": [
            {
                "network": teacher.name,
                "origin": teacher.origin,
                "file": teacher.file and str(teacher.file.relative_to(out)),
                "sha256": teacher.sha256,
                "test": evaluation._asdict(),
                "cost": measure_cost(teacher.network, sample)._asdict(),
            }
            for teacher, evaluation in zip(ready.teachers, scored.teachers, strict=True)
        ],
    }


def _size(part: DataLoader[Any]) -> int | None:
    try:
        return len(part.dataset)  # type: ignore[arg-type]  # a data set that streams has no length
    except (AttributeError, TypeError):
        return None
