"""Projectors by name: what turns a row of features into the hidden vector that teacher and student share.

| name | reads | what |
|---|---|---|
| `linear` | features of an encoder | Linear, ReLU |
| `affine` | features of an encoder | Linear alone: whatever one head makes of it, the other loses nothing |
| `alexnet_cifar`, `cnn_small`, `resnet18` | pixels | a network of `image_networks`, Linear, ReLU |

An image projector learns end to end, and keeps the activations of one chunk of tiles at a time: forward, all
of a chunk but its hidden vectors is forgotten; backward, it is made once more (Chen et al., 2016, "Training
deep nets with sublinear memory cost"). Memory then grows with a bag by its pixels and its hidden vectors
alone, at the price of one more forward pass.
"""

import math
from typing import ClassVar, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wsi_kd.core.draws import WholeBatch, drawn_rows
from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.mil.colors import COLOR_STATISTICS
from wsi_kd.mil.image_networks import CHANNELS, IMAGE_NETWORKS
from wsi_kd.mil.scaling import Affine, FeatureScaling, scaled_linear
from wsi_kd.mil.stain_jitter import DensityChange, StainJitter, change_stains, draw_changes

LINEAR: Final = "linear"
AFFINE: Final = "affine"
FEATURE_PROJECTORS: Final = (LINEAR, AFFINE)
"""Those that read an encoder's features; all others read pixels."""
QUIET_PIXELS: Final = 1 << 20
"""Pixels a pass without gradient; fixed, so that predictions do not depend on how the model was trained."""
SYMMETRIES: Final = 8

Augmentation: TypeAlias = Literal["none", "dihedral"]
Features: TypeAlias = Float[Tensor, "instances features"] | UInt8[Tensor, "instances features"]
"""An encoder's numbers, or the pixels of a tile, row by row, red, green and blue side by side."""


@runtime_checkable
class FeatureProjector(Protocol):
    """A projector that is given features and what standardizes them; the others are given pixels alone."""

    reads_features: ClassVar[bool]


class LinearProjector(nn.Linear):
    """relu(W x + b), x the standardized features; without the relu where not `rectified`.

    While it learns (train mode, with gradient) normal noise of standard deviation `noise` is added to each
    standardized feature, drawn from torch's global generator: what little data cannot tell apart from chance
    is then not learned.
    """

    reads_features: ClassVar[bool] = True

    def __init__(self, feature_dim: int, hidden_dim: int, *, rectified: bool = True) -> None:
        super().__init__(feature_dim, hidden_dim)
        self.rectified = rectified
        self.noise = 0.0
        self.whole: WholeBatch | None = None
        """The batch that the features belong to, where several processes share it."""

    def learn_by(self, *, noise: float) -> None:
        """Set the noise of training; no weight and no prediction depends on it."""
        self.noise = noise

    def forward(
        self, features: Float[Tensor, "instances features"], scaling: FeatureScaling | None = None
    ) -> Float[Tensor, "instances hidden"]:
        """Project features, which `scaling` standardizes unless they are already."""
        affine = Affine(self.weight, self.bias)
        noise = self.noise if self.training else 0.0
        return project_features(
            features, scaling, affine, noise=noise, rectified=self.rectified, whole=self.whole
        )


def project_features(
    features: Float[Tensor, "instances features"],
    scaling: FeatureScaling | None,
    affine: Affine,
    *,
    noise: float,
    rectified: bool,
    whole: WholeBatch | None = None,
) -> Float[Tensor, "instances hidden"]:
    """Project features, `scaling` None if they are standardized; noise is added where there is gradient."""
    summed = (
        nn.functional.linear(features, *affine)
        if scaling is None
        else scaled_linear(features, scaling, affine)
    )
    if noise > 0.0 and torch.is_grad_enabled():
        width, device = affine.weight.shape[1], summed.device
        drawn = drawn_rows(lambda rows: torch.randn(rows, width, device=device), len(summed), whole=whole)
        summed = summed + nn.functional.linear(noise * drawn, affine.weight)
    return torch.relu_(summed) if rectified else summed


class ImageProjector(nn.Module):
    """relu(W network(pixels / 127.5 - 1) + b), chunk by chunk.

    While it learns (train mode, with gradient) each tile is shown as `augmentation` and `stains` say, drawn
    from torch's global generator: `dihedral` is one of the square's eight symmetries, which tissue does not
    tell apart; see `stain_jitter` for the stains. Without gradient tiles are shown as they are.
    """

    def __init__(self, name: str, *, tile_px: int, hidden_dim: int) -> None:
        super().__init__()
        network = IMAGE_NETWORKS[name].build(tile_px)
        self.tile_px = tile_px
        self.network = network.layers
        self.head = nn.Linear(network.width, hidden_dim)
        self.chunk = 256
        self.augmentation: Augmentation = "none"
        self.stains = StainJitter()

    def learn_by(self, *, chunk: int, augmentation: Augmentation, stains: StainJitter | None = None) -> None:
        """Set how tiles are gone through with gradient; no weight and no prediction depends on it."""
        self.chunk, self.augmentation = chunk, augmentation
        self.stains = stains or StainJitter()

    def forward(self, features: Features) -> Float[Tensor, "instances hidden"]:
        """Project flattened tiles of tile_px x tile_px x 3 values in 0-255."""
        learning = torch.is_grad_enabled()
        size = self.chunk if learning else max(1, QUIET_PIXELS // self.tile_px**2)
        view = self._draw(features) if learning and self.training else _View(None, None)
        if len(features) <= size:
            return self._project(features, view)  # one chunk's activations: nothing to forget
        spans = [slice(start, start + size) for start in range(0, len(features), size)]
        project = self._project_twice if learning else self._project
        return torch.cat([project(features[span], view.part(span)) for span in spans])

    def _draw(self, features: Features) -> "_View":
        count, device = len(features), features.device
        symmetry = None
        if self.augmentation == "dihedral":
            symmetry = torch.randint(SYMMETRIES, (count,), device=device)
        return _View(symmetry, draw_changes(self.stains, count, device=device))

    def _project_twice(self, features: Features, view: "_View") -> Float[Tensor, "chunk hidden"]:
        projected: Tensor = checkpoint(
            self._project, features, view, use_reentrant=False, preserve_rng_state=False
        )
        return projected

    def _project(self, features: Features, view: "_View") -> Float[Tensor, "chunk hidden"]:
        tiles = features.reshape(-1, self.tile_px, self.tile_px, CHANNELS)
        if view.symmetry is not None:
            tiles = turn(tiles, view.symmetry)
        levels = tiles.to(self.head.weight.dtype)
        if view.stains is not None:
            levels = change_stains(levels, view.stains)
        scaled = levels.permute(0, 3, 1, 2) / 127.5 - 1.0
        return torch.relu(self.head(self.network(scaled)))


class _View(NamedTuple):
    """How each of several tiles is shown; None: as it is."""

    symmetry: Int64[Tensor, "tiles"] | None
    stains: DensityChange | None

    def part(self, span: slice) -> "_View":
        return _View(
            None if self.symmetry is None else self.symmetry[span],
            None if self.stains is None else self.stains.part(span),
        )


def turn(tiles: Tensor, symmetry: Tensor) -> Tensor:
    """Show each square tile (tiles, side, side, channels) by one of the eight symmetries, 0: as it is.

    Bit 0 swaps rows and columns, bit 1 mirrors top and bottom, bit 2 left and right: together all of them.

    >>> tile = torch.tensor([[1, 2], [3, 4]]).view(1, 2, 2, 1)
    >>> turn(tile, torch.tensor([3])).flatten().tolist()  # transposed, then upside down
    [2, 4, 1, 3]
    """
    chosen = symmetry.view(-1, 1, 1, 1)
    tiles = torch.where((chosen & 1).bool(), tiles.transpose(1, 2), tiles)
    tiles = torch.where((chosen & 2).bool(), tiles.flip(1), tiles)
    return torch.where((chosen & 4).bool(), tiles.flip(2), tiles)


def create_projector(name: str, *, feature_dim: int, hidden_dim: int) -> "LinearProjector | ImageProjector":
    """Build a projector, its weights drawn from torch's global generator.

    Args:
        name: one of the table above.
        feature_dim: width of the rows; of pixels 3 tile_px^2.
        hidden_dim: width of the hidden vectors.

    Raises:
        BadInput: an unknown name, rows that are no square tiles, tiles too small for the network.
    """
    if name in FEATURE_PROJECTORS:
        return LinearProjector(feature_dim, hidden_dim, rectified=name == LINEAR)
    if name not in IMAGE_NETWORKS:
        raise unknown_name("projector", name, (*FEATURE_PROJECTORS, *IMAGE_NETWORKS))
    tile_px = math.isqrt(feature_dim // CHANNELS)
    if CHANNELS * tile_px**2 != feature_dim:
        raise BadInput(
            f"projector {name} reads square RGB tiles, rows of {feature_dim} values are none; "
            "set embed.encoder to pixels, or train.projector to linear"
        )
    smallest_px = IMAGE_NETWORKS[name].smallest_px
    if tile_px < smallest_px:
        raise BadInput(
            f"projector {name} needs tiles of at least {smallest_px} px, these have {tile_px}; "
            "raise tile.tile_px or embed.input_px"
        )
    return ImageProjector(name, tile_px=tile_px, hidden_dim=hidden_dim)


def scaling_width(name: str, *, feature_dim: int) -> int:
    """Return how many numbers the training part's moments describe: the features, or a tile's colors."""
    return feature_dim if name in FEATURE_PROJECTORS else COLOR_STATISTICS
