"""DTFD-MIL (Zhang et al., CVPR 2022): attention within pseudo-bags, then attention over pseudo-bags.

A bag's instances are dealt out to G pseudo-bags. With f, u two attention networks (w^T tanh(V h) + c):

    tier 1    z_g = sum_(i in g) softmax_(i in g)(f(h_i)) h_i         (aggregated feature selection, "AFS")
    tier 2    bag logits = W sum_g softmax_g(u(z_g)) z_g + b

With a linear W both tiers are one attention, softmax_g(u)_g softmax_(i in g)(f)_i, whose logit is f(h_i) -
log sum_(j in g) exp f(h_j) + u(z_g), and the bag logits are its mean of the evidence W h_i + b. The paper's
class activation is W_1 h_i of the classifier of tier 1, which only the pseudo-bags' loss trains
(`auxiliary_losses`); the evidence here is the same activation by the classifier that decides.

Training deals at random (torch's global generator); eval mode deals instance r of the bag to pseudo-bag r
mod G, so that a slide always has the same score and every pseudo-bag spreads over the whole slide.
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.core.draws import WholeBatch, drawn_rows
from wsi_kd.mil.outputs import BagOutput, LossShares
from wsi_kd.mil.pooling import (
    at_least_float32,
    attention_pool,
    check_keep,
    descending_rank,
    segment_ids,
    segment_max,
    segment_sum,
)


class PseudoBags(NamedTuple):
    """Tier 1; pseudo-bag g of bag b is row b G + g, and a bag of fewer than G instances leaves some empty."""

    of_instance: Int64[Tensor, "instances"]
    """Row of the pseudo-bag of each instance."""
    embedding: Float[Tensor, "pseudo_bags hidden"]
    """z_g; 0 where empty."""
    filled: Bool[Tensor, "pseudo_bags"]
    log_attention: Float[Tensor, "instances"]
    """Log of the attention within the pseudo-bag."""


class Dtfd(nn.Module):
    """Two tiers of plain attention; needs no order of instances in training, but reads it in eval mode."""

    contextual: ClassVar[bool] = True
    loss_shares: ClassVar[LossShares] = LossShares(bag=1.0, auxiliary=1.0)

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int, pseudo_bags: int = 4) -> None:
        super().__init__()
        self.pseudo_bags = pseudo_bags
        self.whole: WholeBatch | None = None
        """The batch that the instances belong to, where several processes share it."""
        self.instance_attention = _attention_network(hidden_dim, attention_dim)
        self.pseudo_bag_attention = _attention_network(hidden_dim, attention_dim)
        self.pseudo_bag_head = nn.Linear(hidden_dim, classes)
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; instances whose `keep` is False are dealt out to no pseudo-bag.

        Raises:
            ValueError: a bag keeps no instance.
        """
        pseudo = self.first_tier(instances, offsets, keep)
        logits = at_least_float32(self.pseudo_bag_attention(pseudo.embedding).squeeze(-1))
        per_bag = self.pseudo_bags * torch.arange(len(offsets), device=offsets.device)
        bag_logits = attention_pool(
            torch.where(pseudo.filled, logits, -torch.inf), self.bag_head(pseudo.embedding), per_bag
        )
        attention_logits = pseudo.log_attention + logits[pseudo.of_instance]
        return BagOutput(bag_logits, attention_logits, at_least_float32(self.bag_head(instances)))

    def auxiliary_losses(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        bag_labels: Int64[Tensor, "bags"],
        *,
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> Float[Tensor, "bags"]:
        """Return the loss of tier 1: mean cross entropy of a bag's pseudo-bags, each with the bag's label.

        The paper adds it to the bag's cross entropy. In training the pseudo-bags are dealt anew.
        """
        pseudo = self.first_tier(instances, offsets, keep)
        logits = at_least_float32(self.pseudo_bag_head(pseudo.embedding))
        labels = bag_labels.repeat_interleave(self.pseudo_bags)
        losses = torch.where(pseudo.filled, F.cross_entropy(logits, labels, reduction="none"), 0.0)
        of_bag = losses.view(-1, self.pseudo_bags).sum(dim=1)
        return of_bag / pseudo.filled.view(-1, self.pseudo_bags).sum(dim=1)

    def first_tier(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> PseudoBags:
        """Deal out the instances and pool each pseudo-bag.

        Raises:
            ValueError: a bag keeps no instance.
        """
        of_instance = self._deal(offsets, len(instances), keep)
        logits = at_least_float32(self.instance_attention(instances).squeeze(-1))
        kept = logits if keep is None else logits.masked_fill(~keep, -torch.inf)
        order = of_instance.argsort(stable=True)
        groups = torch.arange((len(offsets) - 1) * self.pseudo_bags + 1, device=offsets.device)
        spans = torch.searchsorted(of_instance[order], groups)
        largest = segment_max(kept.detach()[order], spans)
        filled = largest != -torch.inf
        largest = torch.where(filled, largest, 0.0)
        weights = (kept - largest[of_instance]).exp()[order]
        total = torch.where(filled, segment_sum(weights, spans), 1.0)
        weighted = segment_sum(weights[:, None] * at_least_float32(instances[order]), spans)
        log_attention = logits - (largest + total.log())[of_instance]
        return PseudoBags(of_instance, weighted / total[:, None], filled, log_attention)

    def _deal(
        self, offsets: Int64[Tensor, "bags_and_1"], instances: int, keep: Bool[Tensor, "instances"] | None
    ) -> Int64[Tensor, "instances"]:
        """Return the pseudo-bag of each instance; a hidden one is given one that is not empty."""
        bags = segment_ids(offsets, instances)
        kept = torch.ones_like(bags, dtype=torch.bool) if keep is None else keep
        if keep is not None:
            check_keep(keep, offsets)
        if self.training:
            drawn = drawn_rows(
                lambda rows: torch.rand(rows, device=offsets.device), instances, whole=self.whole
            )
            lots = drawn.masked_fill(~kept, -1.0)
            rank = descending_rank(lots, offsets)
        else:
            seen = F.pad(kept.cumsum(0), (1, 0))
            rank = seen[1:] - 1 - seen[offsets[:-1]][bags]
        return bags * self.pseudo_bags + torch.where(kept, rank, 0) % self.pseudo_bags


def _attention_network(hidden_dim: int, attention_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden_dim, attention_dim), nn.Tanh(), nn.Linear(attention_dim, 1))
