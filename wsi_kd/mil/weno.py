"""WENO's model (Qu et al., NeurIPS 2022): a bag teacher and an instance student on one shared projector."""

from typing import Final, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.colors import color_statistics
from wsi_kd.mil.dropout import Dropout
from wsi_kd.mil.feature_spread import FeatureSpread
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.projectors import LINEAR, FeatureProjector, Features, create_projector, scaling_width
from wsi_kd.mil.scaling import FeatureScaling

ROWS_AT_ONCE: Final = 16_384
"""Instances whose distances are taken at once."""


class TeacherStudentOutput(NamedTuple):
    """The teacher's output and, where there is a student, its logits."""

    bag_logits: Float[Tensor, "bags classes"]
    attention_logits: Float[Tensor, "instances"]
    evidence: Float[Tensor, "instances classes"]
    instance_logits: Float[Tensor, "instances positives"] | None
    """Column c - 1 is class c against all others."""
    branch_logits: Float[Tensor, "instances classes"] | None = None
    """See `BagOutput`."""


class TeacherStudent(nn.Module):
    """Features -> scaling -> shared projector -> teacher over bags and student over instances.

    The projector is Linear and ReLU, or a network on pixels, which scales them itself.

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
        projector: str = LINEAR,
    ) -> None:
        super().__init__()
        self.scaling = FeatureScaling(scaling_width(projector, feature_dim=feature_dim))
        self.spread = FeatureSpread(scaling_width(projector, feature_dim=feature_dim))
        self.projector: nn.Module = create_projector(
            projector, feature_dim=feature_dim, hidden_dim=hidden_dim
        )
        self.dropout = Dropout(dropout)
        self.teacher = teacher
        self.student = student

    def forward(
        self,
        features: Features,
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> TeacherStudentOutput:
        """Score packed bags: bag b is rows offsets[b]:offsets[b+1] of `features`.

        `keep` hides instances from the teacher only.
        """
        hidden = self.dropout(self.project(features))
        output: BagOutput = self.teacher(hidden, offsets, keep)
        instance_logits = None if self.student is None else self.student(hidden)
        return TeacherStudentOutput(*output[:3], instance_logits, output.branch_logits)

    def project(self, features: Features) -> Float[Tensor, "instances hidden"]:
        """Return what teacher and student share, before dropout."""
        scaled = isinstance(self.projector, FeatureProjector)
        hidden: Tensor = self.projector(features, self.scaling) if scaled else self.projector(features)
        return hidden

    def distances(self, features: Features) -> Float[Tensor, "instances"]:
        """Return how far each instance is from the training part: see `FeatureSpread`.

        Block by block, so that a large slide's z-scores are never in memory at once.
        """
        blocks = torch.split(features, ROWS_AT_ONCE)
        return torch.cat([self.spread(self.z_scores(block)) for block in blocks])

    def z_scores(self, features: Features) -> Float[Tensor, "instances width"]:
        """Return the features by the training part's moments; of pixels, each tile's color statistics."""
        read = isinstance(self.projector, FeatureProjector)
        z_scores: Tensor = self.scaling(features if read else color_statistics(features))
        return z_scores
