"""What a teacher must offer before a student can learn from it, asked before any step is taken."""

from typing import Final

from wsi_kd.core.errors import BadInput
from wsi_kd.mil.registry import SCORES_ALONE, WITHOUT_ATTENTION
from wsi_kd.training.plan import Distillation

RELEASED_CLASSES: Final = 2


def check_distillation(teacher: str, distillation: Distillation, *, classes: int) -> None:
    """Check that the teacher of that name can make the soft labels asked for.

    Raises:
        BadInput: labels made of attention with a teacher that has none; the schedule `released` with a
            teacher that cannot score an instance out of its bag, or with other than two classes.
    """
    if distillation.pseudo_label != "evidence" and teacher in WITHOUT_ATTENTION:
        raise BadInput(
            f"pseudo label {distillation.pseudo_label} is made of attention, teacher {teacher} has none; "
            "set train.weno.pseudo_label to evidence, or take another train.teacher"
        )
    if distillation.schedule != "released":
        return
    if teacher not in SCORES_ALONE:
        raise BadInput(
            f"schedule released scores instances out of their bags, teacher {teacher} cannot; "
            f"set train.teacher to one of {', '.join(SCORES_ALONE)}, or train.weno.schedule to alternate"
        )
    if classes != RELEASED_CLASSES:
        raise BadInput(
            f"schedule released is the authors' code, which knows two classes, found {classes}; "
            "set train.weno.schedule to joint or alternate, or merge classes"
        )
