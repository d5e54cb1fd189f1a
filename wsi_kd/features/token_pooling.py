"""From a transformer's tokens to one vector a tile: class and mean token, attentional poolers.

Tokens stand in timm's order: class token, register tokens, patch tokens; all behind the final layer norm.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Tokens = Float[Tensor, "tiles tokens width"]
Vectors = Float[Tensor, "tiles features"]


class ClassAndMean(nn.Module):
    """Class token beside the mean patch token (Virchow, Vorontsov et al. 2024, Methods; Virchow2; H0-mini).

    Register tokens enter neither half.
    """

    def __init__(self, trunk: nn.Module, *, prefix_tokens: int) -> None:
        """Wrap a trunk that returns all its tokens, `prefix_tokens` of them before the patch tokens."""
        super().__init__()
        self.trunk = trunk
        self.prefix_tokens = prefix_tokens

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Vectors:
        """Encode, then concatenate [class, mean of patches]."""
        tokens: Tensor = self.trunk(pixels)
        return torch.cat([tokens[:, 0], tokens[:, self.prefix_tokens :].mean(dim=1)], dim=-1)


class AttentionalPooler(nn.Module):
    """One learned query q that attends to all tokens (CoCa, Yu et al. 2022, section 3.2).

    With LayerNorms n_q and n_k and multi-head attention A: y = A(n_q(q), n_k(x), n_k(x)).
    """

    def __init__(self, *, width: int, features: int, heads: int) -> None:
        """Map tokens of `width` numbers to one vector of `features`."""
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, features))
        self.attn = nn.MultiheadAttention(features, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q = nn.LayerNorm(features)
        self.ln_k = nn.LayerNorm(width)

    def forward(self, tokens: Tokens) -> Vectors:
        """Attend once; the attention itself is not kept."""
        keys = self.ln_k(tokens)
        queries = self.ln_q(self.query).expand(len(tokens), 1, -1)
        pooled: Tensor = self.attn(queries, keys, keys, need_weights=False)[0]
        return pooled[:, 0]


class BiasFreePooler(nn.Module):
    """The pooler of CONCH v1.5: the same attention by linear maps without bias (TITAN, Ding et al. 2024)."""

    def __init__(self, *, width: int, features: int, heads: int) -> None:
        """Map tokens of `width` numbers to one vector of `features`, which `heads` divides."""
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.zeros(1, features))
        self.ln_k = nn.LayerNorm(width)
        self.ln_q = nn.LayerNorm(features)
        self.to_q = nn.Linear(features, features, bias=False)
        self.to_kv = nn.Linear(width, 2 * features, bias=False)
        self.to_out = nn.Linear(features, features, bias=False)

    def forward(self, tokens: Tokens) -> Vectors:
        """Attend once: softmax(q k / sqrt(features / heads)) v, head by head."""
        queries = self.to_q(self.ln_q(self.query)).expand(len(tokens), 1, -1)
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (queries, keys, values)]
        pooled = F.scaled_dot_product_attention(*split)
        merged: Tensor = self.to_out(pooled.transpose(1, 2).flatten(-2))
        return merged[:, 0]


class PooledTower(nn.Module):
    """CONCH's image tower: trunk, attentional pooler, LayerNorm; without the projection to the text's space.

    Its authors say to take features before the projection for all but comparison with text.
    """

    def __init__(self, trunk: nn.Module, pooler: nn.Module, *, features: int) -> None:
        """Put a trunk that returns all its tokens, its pooler and the norm together."""
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = pooler
        self.ln_contrast = nn.LayerNorm(features)

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Vectors:
        """Encode, pool all tokens (the class token too), normalize."""
        vectors: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk(pixels)))
        return vectors
