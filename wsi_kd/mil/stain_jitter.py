"""Random changes of staining for tiles that are learned from, computed in optical density.

    d = -ln((x + 1) / 256),   d' = d A + b,   x' = 256 exp(-d') - 1   (x: levels 0-255, one row a pixel)

with the rows of W the unit absorption colors of three stains:

* `hed`: A = W^-1 diag(a) W, b = c W. W are the stains of Ruifrok and Johnston (hematoxylin, eosin, DAB); each
  is multiplied by a_i, drawn from 1 - strength to 1 + strength, and gets c_i more, drawn from -bias to bias.
* `stain_matrix`: A = W^-1 W', b = 0. W are hematoxylin, eosin and what is at right angles to both; in W' the
  first two are moved by normal noise of deviation strength and brought back to length 1.

Without bias white stays white: no stain stays no stain. Bias tints the glass too, as in the paper.

Sources: Ruifrok, Johnston: "Quantification of histochemical staining by color deconvolution", Anal. Quant.
Cytol. Histol. 23 (2001); Tellez et al.: "Whole-slide mitosis detection in H&E
breast histology using PHH3 as a reference to train distilled stain-invariant convolutional networks", IEEE
Trans. Med. Imaging 37 (2018), section III-D.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

StainChange: TypeAlias = Literal["none", "hed", "stain_matrix"]
HEMATOXYLIN: Final = (0.65, 0.70, 0.29)
EOSIN: Final = (0.07, 0.99, 0.11)
DAB: Final = (0.27, 0.57, 0.78)
LEVELS: Final = 256.0


class StainJitter(NamedTuple):
    """How the stains of tiles are changed while they are learned from."""

    kind: StainChange = "none"
    strength: float = 0.0
    bias: float = 0.0
    """Of `hed` alone: optical density added to or taken from a stain at most."""


class DensityChange(NamedTuple):
    """A change of optical density for each of several tiles."""

    matrix: Float[Tensor, "tiles 3 3"]
    offset: Float[Tensor, "tiles 3"]

    def part(self, span: slice) -> "DensityChange":
        """Return that of some of the tiles."""
        return DensityChange(self.matrix[span], self.offset[span])


def draw_changes(jitter: StainJitter, tiles: int, *, device: torch.device) -> DensityChange | None:
    """Draw a change for each tile, None for kind none; from the CPU's generator, so alike on every device."""
    if jitter.kind == "none":
        return None
    change = _hed(jitter, tiles) if jitter.kind == "hed" else _moved_stains(jitter, tiles)
    return DensityChange(change.matrix.to(device), change.offset.to(device))


def change_stains(
    levels: Float[Tensor, "tiles rows columns 3"], change: DensityChange
) -> Float[Tensor, "tiles rows columns 3"]:
    """Change the stains of each tile; levels stay within 0-255.

    >>> white, gray = torch.full((1, 1, 1, 3), 255.0), torch.full((1, 1, 1, 3), 99.0)
    >>> twice = DensityChange(2 * torch.eye(3)[None], torch.zeros(1, 3))
    >>> change_stains(white, twice).flatten().tolist()
    [255.0, 255.0, 255.0]
    >>> change_stains(gray, twice).round().flatten().tolist()  # 256 (100 / 256)^2 - 1
    [38.0, 38.0, 38.0]
    """
    with torch.autocast(levels.device.type, enabled=False):  # eight bits do not fit bfloat16's
        negative_density = torch.log((levels.float() + 1.0) / LEVELS).flatten(1, 2)
        changed = torch.baddbmm(-change.offset[:, None], negative_density, change.matrix)
        shown = (LEVELS * torch.exp(changed) - 1.0).clamp(0.0, LEVELS - 1.0)
    return shown.view_as(levels).to(levels.dtype)


def _hed(jitter: StainJitter, tiles: int) -> DensityChange:
    stains = _unit(torch.tensor([HEMATOXYLIN, EOSIN, DAB], dtype=torch.float64))
    factors = 1.0 + jitter.strength * _within_one(tiles)
    shifts = jitter.bias * _within_one(tiles)
    matrix = torch.linalg.inv(stains) @ (factors[..., None] * stains)
    return DensityChange(matrix.float(), (shifts @ stains).float())


def _moved_stains(jitter: StainJitter, tiles: int) -> DensityChange:
    two = _unit(torch.tensor([HEMATOXYLIN, EOSIN], dtype=torch.float64))
    rest = _unit(torch.linalg.cross(two[0], two[1])[None])
    moved = _unit(two + jitter.strength * torch.randn(tiles, 2, 3, dtype=torch.float64))
    stains, others = torch.cat([two, rest]), torch.cat([moved, rest.expand(tiles, 1, 3)], dim=1)
    return DensityChange((torch.linalg.inv(stains) @ others).float(), torch.zeros(tiles, 3))


def _within_one(tiles: int) -> Float[Tensor, "tiles 3"]:
    return 2.0 * torch.rand(tiles, 3, dtype=torch.float64) - 1.0


def _unit(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / lengths
