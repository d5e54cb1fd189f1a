"""WENO's model (Qu et al., NeurIPS 2022): a bag teacher and an instance student on one shared projector."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.scaling import FeatureScaling


class TeacherStudentOutput(NamedTuple):
    """The teacher's output and, where there is a student, its logits."""

    bag_logits: Float[Tensor, "bags classes"]
    attention_logits: Float[Tensor, "instances"]
    evidence: Float[Tensor, "instances classes"]
    instance_logits: Float[Tensor, "instances"] | None


class TeacherStudent(nn.Module):
    """Features -> scaling -> shared projector (Linear, ReLU) -> teacher over bags and student over instances.

    Dropout stands between the projector and the heads and nowhere else, so `teacher(project(features),
    offsets)` is the teacher's word without noise even while the model trains: pseudo labels cost no second
    projection. There is no BatchNorm: one bag's statistics are its label's, and differ from those of a mix
    of instances.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        hidden_dim: int,
        dropout: float,
        teacher: nn.Module,
        student: InstanceClassifier | None,
    ) -> None:
        super().__init__()
        self.scaling = FeatureScaling(feature_dim)
        self.projector = nn.Linear(feature_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.teacher = teacher
        self.student = student

    def forward(
        self,
        features: Float[Tensor, "instances features"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> TeacherStudentOutput:
        """Score packed bags: bag b is rows offsets[b]:offsets[b+1] of `features`.

        `keep` hides instances from the teacher only.
        """
        hidden = self.dropout(self.project(features))
        output: BagOutput = self.teacher(hidden, offsets, keep)
        instance_logits = None if self.student is None else self.student(hidden)
        return TeacherStudentOutput(*output, instance_logits)

    def project(self, features: Float[Tensor, "instances features"]) -> Float[Tensor, "instances hidden"]:
        """Return what teacher and student share, before dropout."""
        return torch.relu(self.projector(self.scaling(features)))
