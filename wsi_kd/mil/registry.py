"""Teachers by name. A new teacher is a file in this folder and a line here."""

from collections.abc import Callable
from typing import Final

from torch import nn

from wsi_kd.core.errors import unknown_name
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.additive_mil import AdditiveMil
from wsi_kd.mil.clam_mb import ClamMb
from wsi_kd.mil.clam_sb import ClamSb
from wsi_kd.mil.dsmil import Dsmil
from wsi_kd.mil.dtfd import Dtfd
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.max_pooling import MaxPooling
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.projectors import LINEAR
from wsi_kd.mil.top_k_pooling import TOP_K, TopKPooling
from wsi_kd.mil.transmil import TransMil
from wsi_kd.mil.weno import TeacherStudent

TEACHERS: Final[dict[str, Callable[..., nn.Module]]] = {
    "abmil": Abmil,
    "gated_abmil": GatedAbmil,
    "mean_pooling": MeanPooling,
    "max_pooling": MaxPooling,
    "top_k_pooling": TopKPooling,
    "additive_mil": AdditiveMil,
    "clam_sb": ClamSb,
    "clam_mb": ClamMb,
    "dsmil": Dsmil,
    "dtfd": Dtfd,
    "transmil": TransMil,
}
WITHOUT_ATTENTION_DIM: Final = frozenset({"mean_pooling", "max_pooling", "top_k_pooling", "transmil"})
"""Teachers that have no attention network of a width of its own."""
WITHOUT_ATTENTION: Final = ("mean_pooling",)
"""Teachers to which all instances of a bag are alike: no label can be made of their attention."""
FIXED_ATTENTION: Final = ("mean_pooling", "max_pooling", "top_k_pooling")
"""Teachers whose attention is a rule without parameters: no loss can train it."""
SCORES_ALONE: Final = ("abmil", "gated_abmil", "additive_mil", "clam_sb", "clam_mb", "dsmil")
"""Teachers whose `label_scores` of an instance do not depend on the rest of its bag."""


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
    student_prototypes: int = 1,
    projector: str = LINEAR,
    top_k: int = TOP_K,
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
        student_prototypes: linear units a positive class that the student's logit is the log-sum-exp of.
        with_student: whether there is a student.
        projector: a name of `wsi_kd.mil.projectors`: linear, affine, or a network that reads pixels.
        top_k: instances that `top_k_pooling` averages; unused by all other teachers.

    Raises:
        BadInput: no teacher or projector of that name, rows that the projector cannot read as tiles.
    """
    if teacher not in TEACHERS:
        raise unknown_name("teacher", teacher, TEACHERS)
    student = (
        InstanceClassifier(
            hidden_dim=hidden_dim,
            student_hidden_dim=student_hidden_dim,
            positives=classes - 1,
            prototypes=student_prototypes,
        )
        if with_student
        else None
    )
    widths = {} if teacher in WITHOUT_ATTENTION_DIM else {"attention_dim": attention_dim}
    widths |= {"top_k": top_k} if teacher == "top_k_pooling" else {}
    bag_teacher = TEACHERS[teacher](hidden_dim=hidden_dim, classes=classes, **widths)
    return TeacherStudent(
        feature_dim=feature_dim,
        hidden_dim=hidden_dim,
        dropout=dropout,
        teacher=bag_teacher,
        student=student,
        projector=projector,
    )
