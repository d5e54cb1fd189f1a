"""Nystroem attention (Xiong et al., AAAI 2021): self-attention whose cost is linear in the tokens.

With m landmarks (means of consecutive queries Q~ and keys K~) and d the width of a head,

    softmax(Q K^T) V  ~  softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~ K^T) V        (each over sqrt d)

The pseudo-inverse of A is iterated six times, Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, from Z = A^T
/ (largest row sum x largest column sum), the largest of all heads. Tokens are filled up in front with zeros
to a multiple of m; as in the reference module the zeros are attended to as well. A depthwise convolution of
the values along the tokens is added. All but the linear layers runs in at least float32: the iteration does
not converge in bfloat16.
"""

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.mil.pooling import at_least_float32

ITERATIONS: Final = 6


class Attended(NamedTuple):
    """New tokens, and what the first of them looked at."""

    tokens: Float[Tensor, "tokens dim"]
    first_row: Float[Tensor, "tokens"]
    """Attention of the first token, mean over the heads; an approximation, so that it may be below 0."""


class NystromAttention(nn.Module):
    """Attention among the tokens of one bag."""

    def __init__(self, *, dim: int, heads: int, landmarks: int, residual_kernel: int = 33) -> None:
        super().__init__()
        self.heads, self.landmarks = heads, landmarks
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.residual = nn.Conv1d(
            heads, heads, residual_kernel, padding=residual_kernel // 2, groups=heads, bias=False
        )
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Attended:
        """Attend from every token to every token."""
        added = -len(tokens) % self.landmarks
        padded = F.pad(tokens, (0, 0, added, 0))
        queries, keys, values = self.to_qkv(padded).chunk(3, dim=1)
        with torch.autocast(tokens.device.type, enabled=False):
            values = self._split(values)
            left, inverse, right = self._kernels(self._split(queries), self._split(keys))
            attended = left @ (inverse @ (right @ values)) + self._residual(values)
            first_row = (left[:, added : added + 1] @ inverse @ right).mean(dim=0)[0]
        merged = self.to_out(attended.transpose(0, 1).flatten(start_dim=1))
        return Attended(merged[added:], first_row[added:])

    def _split(self, merged: Float[Tensor, "tokens dim"]) -> Float[Tensor, "heads tokens width"]:
        return at_least_float32(merged).view(len(merged), self.heads, -1).transpose(0, 1)

    def _kernels(
        self, queries: Float[Tensor, "heads tokens width"], keys: Float[Tensor, "heads tokens width"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries = queries * queries.shape[2] ** -0.5
        landmark_queries, landmark_keys = self._landmarks(queries), self._landmarks(keys)
        left = (queries @ landmark_keys.mT).softmax(dim=-1)
        middle = (landmark_queries @ landmark_keys.mT).softmax(dim=-1)
        right = (landmark_queries @ keys.mT).softmax(dim=-1)
        return left, pseudo_inverse(middle), right

    def _landmarks(self, vectors: Float[Tensor, "heads tokens width"]) -> Tensor:
        heads, _, width = vectors.shape
        return vectors.reshape(heads, self.landmarks, -1, width).mean(dim=2)

    def _residual(self, values: Float[Tensor, "heads tokens width"]) -> Tensor:
        weights = self.residual.weight.to(values.dtype)
        along_tokens = values.permute(2, 0, 1)
        mixed = F.conv1d(along_tokens, weights, padding=weights.shape[2] // 2, groups=self.heads)
        return mixed.permute(1, 2, 0)


def pseudo_inverse(matrices: Float[Tensor, "heads rows rows"]) -> Float[Tensor, "heads rows rows"]:
    """Approximate the Moore-Penrose inverse of matrices whose rows are softmaxes.

    >>> pseudo_inverse(torch.eye(2)[None]).round(decimals=6).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    largest = matrices.sum(dim=-1).max() * matrices.sum(dim=-2).max()
    inverse = matrices.mT / largest
    for _ in range(ITERATIONS):
        product = matrices @ inverse
        inner = 15.0 * identity - product @ (7.0 * identity - product)
        inverse = 0.25 * inverse @ (13.0 * identity - product @ inner)
    return inverse
