"""CLAM, single branch (Lu et al., Nature Biomedical Engineering 2021): gated attention, clustered instances.

The bag is scored as by gated ABMIL (the projector is CLAM's first layer). What CLAM adds is a loss: one
classifier a class tells that class's most attended instances of a bag from its least attended ones. It acts
on training only, through `auxiliary_losses`.
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.abmil import GatedAbmil
from wsi_kd.mil.outputs import LossShares
from wsi_kd.mil.pooling import at_least_float32, descending_rank, segment_ids, segment_sum


class AttendedSides(NamedTuple):
    """The most and the least attended instances of each bag."""

    most: Bool[Tensor, "instances"]
    least: Bool[Tensor, "instances"]
    per_side: Float[Tensor, "bags"]
    """How many instances of a bag stand on either side."""


class ClamSb(GatedAbmil):
    """Gated attention a_i = w^T (tanh(V h_i) * sigmoid(U h_i)) + c, and instance classifiers for the loss."""

    contextual: ClassVar[bool] = False
    loss_shares: ClassVar[LossShares] = LossShares(bag=0.7, auxiliary=0.3)

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int, samples: int = 8) -> None:
        super().__init__(hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
        self.classes, self.samples = classes, samples
        self.instance_heads = nn.Linear(hidden_dim, 2 * classes)

    def auxiliary_losses(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        bag_labels: Int64[Tensor, "bags"],
        *,
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> Float[Tensor, "bags"]:
        """Return the clustering loss of each bag; CLAM adds 0.3 of it to 0.7 of the bag's cross entropy.

        Mean cross entropy of the classifier of the bag's label over the `samples` most attended instances
        (target 1) and the `samples` least attended ones (target 0). A bag of fewer than two times `samples`
        gives half of its instances to each side, one of a single instance has loss 0. Left out: the smooth
        SVM loss, and the classifiers of the other classes (`clam_mb` trains them).
        """
        with torch.no_grad():
            attention_logits = at_least_float32(self.attention_head(self.attend(instances)).squeeze(-1))
        sides = attended_sides(attention_logits, offsets, samples=self.samples, keep=keep)
        bags = segment_ids(offsets, len(instances))
        heads = at_least_float32(self.instance_heads(instances)).view(-1, self.classes, 2)
        own = heads[torch.arange(len(bags), device=bags.device), bag_labels[bags]]
        losses = F.cross_entropy(own, sides.most.long(), reduction="none")
        total = segment_sum(torch.where(sides.most | sides.least, losses, 0.0), offsets)
        return total / (2.0 * sides.per_side).clamp(min=1.0)


def attended_sides(
    attention_logits: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    samples: int,
    keep: Bool[Tensor, "instances"] | None = None,
) -> AttendedSides:
    """Choose `samples` instances of either side; a bag of fewer than two times as many is cut in half.

    >>> sides = attended_sides(torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([0, 3, 4]), samples=2)
    >>> sides.most.tolist(), sides.least.tolist(), sides.per_side.tolist()
    ([True, False, False, False], [False, True, False, False], [1.0, 0.0])
    """
    bags = segment_ids(offsets, len(attention_logits))
    kept = torch.ones_like(bags, dtype=torch.bool) if keep is None else keep
    sizes = segment_sum(kept.to(attention_logits.dtype), offsets)
    per_side = (sizes / 2).floor().clamp(max=samples)
    most = _rank(attention_logits, kept, offsets) < per_side[bags]
    return AttendedSides(most, _rank(-attention_logits, kept, offsets) < per_side[bags], per_side)


def _rank(
    scores: Float[Tensor, "instances"], kept: Bool[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"]
) -> Int64[Tensor, "instances"]:
    return descending_rank(scores.masked_fill(~kept, -torch.inf), offsets)
