"""What the student is trained on: the teacher's soft labels, its bag's label, or a share of each."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.kd.bag_label_loss import background_rates, bag_label_losses
from wsi_kd.training.loop import Run
from wsi_kd.training.losses import student_losses
from wsi_kd.training.plan import Distillation


class StudentObjective(NamedTuple):
    """(1 - share) x WENO's loss on soft labels + share x the loss on bag labels."""

    negative_weight: float
    bag_label_share: float
    background: Float[Tensor, "positives"]
    """How often an instance of the background lies in a bag of each class."""

    @property
    def reads_teacher(self) -> bool:
        """Whether soft labels play a role."""
        return self.bag_label_share < 1.0

    @property
    def reads_bag_labels(self) -> bool:
        """Whether bag labels play a role."""
        return self.bag_label_share > 0.0

    def on_bag_labels(
        self, instance_logits: Float[Tensor, "instances positives"], labels: Int64[Tensor, "instances"]
    ) -> Float[Tensor, "instances"]:
        """Return the loss on bag labels alone."""
        return bag_label_losses(instance_logits, labels, background=self.background)

    def losses(
        self,
        instance_logits: Float[Tensor, "instances positives"],
        soft_labels: Float[Tensor, "instances positives"] | None,
        labels: Int64[Tensor, "instances"] | None,
    ) -> Float[Tensor, "instances"]:
        """Return the loss of each instance; `labels` are those of its bags, `soft_labels` the teacher's.

        Either may be None where it plays no role.

        Raises:
            ValueError: one that does is None.
        """
        hard = self._of_bag_labels(instance_logits, labels) if self.reads_bag_labels else None
        if not self.reads_teacher and hard is not None:
            return hard
        if soft_labels is None:
            raise ValueError("the student learns from soft labels, and there are none")
        soft = student_losses(instance_logits, soft_labels, negative_weight=self.negative_weight)
        return soft if hard is None else (1.0 - self.bag_label_share) * soft + self.bag_label_share * hard

    def _of_bag_labels(
        self, instance_logits: Float[Tensor, "instances positives"], labels: Int64[Tensor, "instances"] | None
    ) -> Float[Tensor, "instances"]:
        if labels is None:
            raise ValueError("the student learns from bag labels, and there are none")
        return self.on_bag_labels(instance_logits, labels)


def student_objective(run: Run, distillation: Distillation) -> StudentObjective:
    """Return the objective of a run; the background follows from the training part and the witness rate."""
    offsets, labels = torch.from_numpy(run.train.offsets), torch.from_numpy(run.train.labels)
    background = background_rates(
        labels,
        offsets.diff(),
        classes=run.student.positives + 1,
        witness_rate=distillation.witness_rate,
    )
    return StudentObjective(
        distillation.negative_weight, distillation.bag_label_share, background.to(run.device)
    )
