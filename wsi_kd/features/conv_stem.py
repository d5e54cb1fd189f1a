"""The first layers of CTransPath: convolutions in place of Swin's patch embedding (Wang et al. 2022)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

STEM_STRIDE = 4


class ConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2 with batch norm and ReLU, a 1x1 convolution, LayerNorm.

    Channels: 3 -> width / 8 -> width / 4 -> width. timm's Swin calls it in place of its `PatchEmbed`.
    """

    def __init__(
        self,
        *,
        img_size: tuple[int, int],
        embed_dim: int,
        norm_layer: type[nn.Module] | None,
        **_of_timm: Any,
    ) -> None:
        """Build for images of `img_size` px and `embed_dim` channels; timm's other keywords do not apply."""
        super().__init__()
        first, second = embed_dim // 8, embed_dim // 4
        self.grid_size = (img_size[0] // STEM_STRIDE, img_size[1] // STEM_STRIDE)
        self.patch_size = (STEM_STRIDE, STEM_STRIDE)
        self.proj = nn.Sequential(
            *_halving(3, first), *_halving(first, second), nn.Conv2d(second, embed_dim, kernel_size=1)
        )
        self.norm = nn.Identity() if norm_layer is None else norm_layer(embed_dim)

    def forward(
        self, pixels: Float[Tensor, "tiles 3 height width"]
    ) -> Float[Tensor, "tiles rows columns channels"]:
        """Return a map of a quarter of the edge, channels last as timm's Swin reads it."""
        embedded: Tensor = self.norm(self.proj(pixels).permute(0, 2, 3, 1))
        return embedded


def _halving(channels: int, out_channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()
