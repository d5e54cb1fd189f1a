"""Prototypes of positive and negative instances, and what instances learn from them (INS-style).

Source of the forms: Qu et al., "Rethinking Multiple Instance Learning for Whole Slide Image Classification: A
Good Instance Classifier is All You Need", TCSVT 2024 (arXiv 2307.02249).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.mil.pooling import at_least_float32, descending_rank, segment_ids


def unit_length(hidden: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances hidden"]:
    """Return the vectors at length 1, at least float32; a vector of zeros stays."""
    return F.normalize(at_least_float32(hidden), dim=1)


@torch.no_grad()
def move_prototypes(
    prototypes: Float[Tensor, "2 hidden"],
    embeddings: Float[Tensor, "instances hidden"],
    *,
    members: Bool[Tensor, "instances 2"],
    decay: float,
) -> Float[Tensor, "2 hidden"]:
    """Return the prototypes moved towards their members: m <- unit(d m + (1 - d) mean of the members).

    Row 0 is the negative prototype, row 1 the positive one; `members[:, r]` says who belongs to row r. A
    prototype without members stays; one that was zero becomes its members' direction.

    >>> move_prototypes(
    ...     torch.zeros(2, 2), torch.eye(2), members=torch.tensor([[True, False], [True, False]]), decay=0.9
    ... )
    tensor([[0.7071, 0.7071],
            [0.0000, 0.0000]])
    """
    weights = members.to(embeddings.dtype)
    counts = weights.sum(dim=0)
    means = weights.T @ embeddings / counts.clamp(min=1.0)[:, None]
    moved = F.normalize(decay * prototypes + (1.0 - decay) * means, dim=1)
    return torch.where((counts > 0)[:, None], moved, prototypes)


@torch.no_grad()
def prototype_members(
    log_odds: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    bag_labels: Int64[Tensor, "bags"],
    *,
    positive_fraction: float,
) -> Bool[Tensor, "instances 2"]:
    """Return who moves which prototype.

    The negative one: every instance of negative bags, true negatives by the definition of a bag's label. The
    positive one: in positive bags the ceil(positive_fraction * size) instances of largest log-odds.
    """
    positive = bag_labels[segment_ids(offsets, len(log_odds))] == 1
    wanted = (offsets.diff().double() * positive_fraction - 1e-9).ceil().long().clamp(min=1)
    top = descending_rank(log_odds, offsets) < wanted[segment_ids(offsets, len(log_odds))]
    return torch.stack([~positive, positive & top], dim=1)


@torch.no_grad()
def vote(
    embeddings: Float[Tensor, "instances hidden"], prototypes: Float[Tensor, "2 hidden"]
) -> Float[Tensor, "instances"]:
    """Return 1 where an instance is nearer, by cosine, to the positive prototype; else 0."""
    similarity = embeddings @ prototypes.T
    return (similarity[:, 1] > similarity[:, 0]).to(embeddings.dtype)


def contrastive_losses(
    queries: Float[Tensor, "anchors hidden"],
    keys: Float[Tensor, "anchors hidden"],
    families: Int64[Tensor, "anchors"],
    *,
    temperature: float,
) -> Float[Tensor, "anchors"]:
    """Weakly supervised contrastive loss of each anchor: its family's keys near, all others far.

    -1/|F(i)| sum_(j in F(i)) log[ exp(q_i k_j / t) / sum_j' exp(q_i k_j' / t) ], F(i) the anchors with i's
    family, i itself included: `keys` are a second view of the same anchors. Vectors have unit length.

    >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> contrastive_losses(same, same, torch.tensor([0, 1]), temperature=1.0)
    tensor([0.6931, 0.6931])
    """
    log_shares = (queries @ keys.T / temperature).log_softmax(dim=1)
    family = (families[:, None] == families[None, :]).to(log_shares.dtype)
    return -(log_shares * family).sum(dim=1) / family.sum(dim=1)
