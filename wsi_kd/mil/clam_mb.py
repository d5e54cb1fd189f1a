"""CLAM, multiple branches (Lu et al., Nature Biomedical Engineering 2021): one attention a class.

The branches share the gated network and each has a head of its own, and each class is classified from what
its branch pools:

    a_ic = w_c^T (tanh(V h_i) * sigmoid(U h_i)) + b_c,     softmax over i for every class c
    bag logit c = sum_i softmax(a_c)_i e_ic,               e_ic = u_c^T h_i + d_c

The released classifiers are one linear layer a class; stacked they are one of `classes` rows, applied before
the pooling as in ABMIL. The clustering loss is the one of `clam_sb` by the branch of each class, and the
classifiers of the other classes are trained too: the released code's `subtyping`, classes that exclude each
other.
"""

from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.abmil import GatedAbmil, fused_linear
from wsi_kd.mil.clam_sb import attended_sides
from wsi_kd.mil.outputs import BagOutput, LossShares
from wsi_kd.mil.pooling import at_least_float32, attention_pool, segment_ids, segment_sum

TWO_CLASSES: Final = 2


class ClamMb(GatedAbmil):
    """One attention branch a class; `attention_logits` are those of the bag's predicted class.

    With two classes they are those of class 1 whatever is predicted, so that they always speak of the
    positive class.
    """

    contextual: ClassVar[bool] = False
    loss_shares: ClassVar[LossShares] = LossShares(bag=0.7, auxiliary=0.3)

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int, samples: int = 8) -> None:
        super().__init__(hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
        self.classes, self.samples = classes, samples
        self.attention_head = nn.Linear(attention_dim, classes)
        self.instance_heads = nn.Linear(hidden_dim, 2 * classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; instances whose `keep` is False get no attention from any branch.

        Raises:
            ValueError: a bag keeps no instance.
        """
        *gates, classified = fused_linear(instances, [*self.attention_layers(), self.bag_head])
        branch_logits = at_least_float32(self.attention_head(self.gate(*gates)))
        evidence = at_least_float32(classified)
        pooled = [
            attention_pool(branch, of_class[:, None], offsets, keep=keep)
            for branch, of_class in zip(branch_logits.unbind(dim=1), evidence.unbind(dim=1), strict=True)
        ]
        bag_logits = torch.cat(pooled, dim=1)
        predicted = torch.ones_like(offsets[1:]) if self.classes == TWO_CLASSES else bag_logits.argmax(dim=1)
        of_bag = predicted[segment_ids(offsets, len(instances))]
        attention_logits = branch_logits.gather(1, of_bag[:, None]).squeeze(1)
        return BagOutput(bag_logits, attention_logits, evidence, branch_logits)

    def auxiliary_losses(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        bag_labels: Int64[Tensor, "bags"],
        *,
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> Float[Tensor, "bags"]:
        """Return the clustering loss of each bag, the mean over the classes; CLAM adds 0.3 of it to 0.7.

        The classifier of the bag's label: mean cross entropy over the `samples` instances its branch attends
        to most (target 1) and least (target 0). Those of the other classes: over the most attended by theirs
        (target 0). Small bags as in `clam_sb`; the smooth SVM loss is left out.
        """
        with torch.no_grad():
            branch_logits = at_least_float32(self.attention_head(self.attend(instances)))
        heads = at_least_float32(self.instance_heads(instances)).view(-1, self.classes, 2)
        bags = segment_ids(offsets, len(instances))
        losses = []
        for label, (attention_logits, head) in enumerate(
            zip(branch_logits.unbind(dim=1), heads.unbind(dim=1), strict=True)
        ):
            sides = attended_sides(attention_logits, offsets, samples=self.samples, keep=keep)
            own = bag_labels == label
            target = (sides.most & own[bags]).long()
            chosen = sides.most | (sides.least & own[bags])
            each = F.cross_entropy(head, target, reduction="none")
            count = sides.per_side * (1.0 + own)
            losses.append(segment_sum(torch.where(chosen, each, 0.0), offsets) / count.clamp(min=1.0))
        return torch.stack(losses).mean(dim=0)
