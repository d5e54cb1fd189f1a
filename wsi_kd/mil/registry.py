"""Teachers by name. A new teacher is a file in this folder and a line here."""

from collections.abc import Callable
from typing import Final

from torch import nn

from wsi_kd.core.errors import unknown_name
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.additive_mil import AdditiveMil
from wsi_kd.mil.clam_sb import ClamSb
from wsi_kd.mil.dsmil import Dsmil
from wsi_kd.mil.dtfd import Dtfd
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.max_pooling import MaxPooling
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.transmil import TransMil
from wsi_kd.mil.weno import TeacherStudent

TEACHERS: Final[dict[str, Callable[..., nn.Module]]] = {
    "abmil": Abmil,
    "gated_abmil": GatedAbmil,
    "mean_pooling": MeanPooling,
    "max_pooling": MaxPooling,
    "additive_mil": AdditiveMil,
    "clam_sb": ClamSb,
    "dsmil": Dsmil,
    "dtfd": Dtfd,
    "transmil": TransMil,
}
WITHOUT_ATTENTION_DIM: Final = frozenset({"mean_pooling", "max_pooling", "transmil"})
"""Teachers that have no attention network of a width of its own."""


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

    Args:
        teacher: a name in `TEACHERS`.
        feature_dim: width of the features.
        classes: bag classes, class 0 the negative one.
        hidden_dim: width of the shared projector, which the teacher reads.
        attention_dim: width of the teacher's attention network; unused by `WITHOUT_ATTENTION_DIM`.
        dropout: between projector and heads.
        student_hidden_dim: width of the student's hidden layer; 0: linear.
        with_student: whether there is a student.

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
    attention = {} if teacher in WITHOUT_ATTENTION_DIM else {"attention_dim": attention_dim}
    bag_teacher = TEACHERS[teacher](hidden_dim=hidden_dim, classes=classes, **attention)
    return TeacherStudent(
        feature_dim=feature_dim, hidden_dim=hidden_dim, dropout=dropout, teacher=bag_teacher, student=student
    )
