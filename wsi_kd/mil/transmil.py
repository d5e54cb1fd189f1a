"""TransMIL (Shao et al., NeurIPS 2021): instances as tokens of a transformer, the bag as its class token.

A bag's n instances are repeated from the first on to fill a square of S = ceil(sqrt n) a side, then

    X <- [class token; X]
    X <- X + NystromAttention(LayerNorm(X))
    X <- PPEG(X): conv7(X) + conv5(X) + conv3(X) + X, depthwise on the S x S grid, class token left out
    X <- X + NystromAttention(LayerNorm(X))
    bag logits = W LayerNorm(X)_class + b

The projector of the model is the paper's first layer; there is no dropout here. A bag is a sequence of its
own, so that bags are gone through one by one and the products run over all instances of a bag at once. Grid
and landmarks follow the order of the instances: another order is another bag.
"""

import math
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.nystrom_attention import Attended, NystromAttention
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, check_keep

LEAST_ATTENTION: Final = 1e-8
"""Nystroem attention can be 0 or below; its logarithm is taken of this at least."""


class _Encoded(NamedTuple):
    class_token: Float[Tensor, "1 hidden"]
    tokens: Float[Tensor, "instances hidden"]
    attention: Float[Tensor, "instances"]


class TransMil(nn.Module):
    """Two layers of attention with a grid convolution between them.

    The attention logits are the logarithm of what the class token attends to in the last layer (mean over the
    heads). The evidence is the bag classifier applied to each instance's own token after it, which has seen
    the whole bag: no part of the bag logits, but in the same units.
    """

    contextual: ClassVar[bool] = True

    def __init__(
        self,
        *,
        hidden_dim: int,
        classes: int,
        heads: int | None = None,
        landmarks: int | None = None,
    ) -> None:
        super().__init__()
        heads = heads or math.gcd(hidden_dim, 8)
        landmarks = landmarks or max(1, hidden_dim // 2)
        self.class_token = nn.Parameter(torch.randn(1, hidden_dim))
        self.first_norm = nn.LayerNorm(hidden_dim)
        self.first_attention = NystromAttention(dim=hidden_dim, heads=heads, landmarks=landmarks)
        self.position = nn.ModuleList(
            nn.Conv2d(hidden_dim, hidden_dim, side, padding=side // 2, groups=hidden_dim)
            for side in (7, 5, 3)
        )
        self.second_norm = nn.LayerNorm(hidden_dim)
        self.second_attention = NystromAttention(dim=hidden_dim, heads=heads, landmarks=landmarks)
        self.norm = nn.LayerNorm(hidden_dim)
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; an instance whose `keep` is False is no token.

        It has the least attention, and the evidence of its vector without the bag.

        Raises:
            ValueError: a bag keeps no instance.
        """
        if keep is not None:
            check_keep(keep, offsets)
        rows = torch.arange(len(instances), device=instances.device)
        spans = [rows[start:end] for start, end in pairwise(offsets.tolist())]
        shown = spans if keep is None else [span[keep[span]] for span in spans]
        bags = [self._encode(instances[span]) for span in shown]
        attention = torch.cat([bag.attention for bag in bags]).clamp(min=LEAST_ATTENTION).log()
        tokens = torch.cat([bag.tokens for bag in bags])
        if keep is not None:
            least = torch.full_like(rows, math.log(LEAST_ATTENTION), dtype=attention.dtype)
            attention = least.index_copy(0, torch.cat(shown), attention)
            tokens = at_least_float32(instances).index_copy(0, torch.cat(shown), tokens)
        bag_logits = self._classify(torch.cat([bag.class_token for bag in bags]))
        return BagOutput(bag_logits, attention, self._classify(tokens))

    def _classify(self, tokens: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens classes"]:
        return at_least_float32(self.bag_head(self.norm(tokens)))

    def _encode(self, bag: Float[Tensor, "instances hidden"]) -> _Encoded:
        count, side = len(bag), math.isqrt(len(bag) - 1) + 1
        bag = at_least_float32(bag)
        tokens = torch.cat([self.class_token, bag, bag[: side * side - count]])
        tokens = tokens + self._attend(self.first_attention, self.first_norm(tokens)).tokens
        tokens = torch.cat([tokens[:1], self._place(tokens[1:], side)])
        attended = self._attend(self.second_attention, self.second_norm(tokens))
        tokens = tokens + attended.tokens
        return _Encoded(tokens[:1], tokens[1 : count + 1], attended.first_row[1 : count + 1])

    def _attend(self, attention: NystromAttention, tokens: Float[Tensor, "tokens hidden"]) -> Attended:
        attended: Attended = attention(tokens)
        return Attended(at_least_float32(attended.tokens), attended.first_row)

    def _place(self, tokens: Float[Tensor, "cells hidden"], side: int) -> Float[Tensor, "cells hidden"]:
        grid = tokens.T.reshape(1, -1, side, side)
        placed = grid
        for convolution in self.position:
            placed = placed + at_least_float32(convolution(grid))
        return placed[0].flatten(start_dim=1).T
