"""Teachers by name. A new teacher is a file in this folder and a line here."""

from collections.abc import Callable
from typing import Final

from torch import nn

from wsi_kd.core.errors import unknown_name
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.weno import TeacherStudent

TEACHERS: Final[dict[str, Callable[..., nn.Module]]] = {
    "abmil": Abmil,
    "gated_abmil": GatedAbmil,
}


def create_model(
    teacher: str,
    *,
    feature_dim: int,
    classes: int,
    hidden_dim: int,
    attention_dim: int,
    dropout: float,
    student_hidden_dim: int,
    with_student: bool,
) -> TeacherStudent:
    """Build a model, its weights drawn from torch's global generator; checkpoints carry the arguments.

    Raises:
        BadInput: no teacher of that name.
    """
    if teacher not in TEACHERS:
        raise unknown_name("teacher", teacher, TEACHERS)
    student = (
        InstanceClassifier(hidden_dim=hidden_dim, student_hidden_dim=student_hidden_dim)
        if with_student
        else None
    )
    bag_teacher = TEACHERS[teacher](hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
    return TeacherStudent(
        feature_dim=feature_dim, hidden_dim=hidden_dim, dropout=dropout, teacher=bag_teacher, student=student
    )
