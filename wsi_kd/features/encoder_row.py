"""What is known of a published tile encoder: where its weights are, what it sees, how its tokens are read."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Color = tuple[float, float, float]

IMAGENET_MEAN: Final[Color] = (0.485, 0.456, 0.406)
IMAGENET_STD: Final[Color] = (0.229, 0.224, 0.225)
CLIP_MEAN: Final[Color] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final[Color] = (0.26862954, 0.26130258, 0.27577711)
HALF: Final[Color] = (0.5, 0.5, 0.5)

Interpolation = Literal["bilinear", "bicubic"]
Tokens = Literal["class", "class+mean", "attention", "average"]
Build = Literal["vit", "conch", "conch_v1_5", "ctranspath"]

OWN_INTERPOLATION: Final[Interpolation] = "bilinear"
"""How tiles are resized where nobody says how, as torchvision's `Resize` does."""
RESIZING: Final = 2
"""One more whenever resized tiles get other pixels, for finished files of other tiles do not fit then.
1: areas by OpenCV, and Pillow's filters; 2: torch's."""

HUB: Final = "https://huggingface.co/"


class License(NamedTuple):
    """Under what terms the weights may be used."""

    name: str
    commercial: bool
    gated: bool
    """Whether the hub asks for a login and an accepted license before it hands out the weights."""


class Scale(NamedTuple):
    """The tiles that the authors or the field cut for an encoder."""

    tile_px: int
    """Edge of a tile in pixels at `mpp`."""
    mpp: float
    """Recommended resolution in um/px, for tile.tile_mpp."""
    trained_mpp: tuple[float, ...]
    """Every resolution it was trained at, in um/px."""


class Sight(NamedTuple):
    """From a tile's pixels to what the network is fed: resize, cut out the center, normalize."""

    input_px: int
    """Edge that the network is fed."""
    resize_px: int
    """Edge that a tile is resized to first; where it is larger than `input_px` the border is cut off."""
    interpolation: Interpolation
    pixel_mean: Color
    pixel_std: Color
    """Of pixels in 0-1."""


class Network(NamedTuple):
    """What the architecture is built from."""

    build: Build
    timm_name: str
    arguments: Mapping[str, bool | int | float | str]
    """Keywords of timm's constructor; mlp_layer "swiglu" stands for its packed SwiGLU."""
    tokens: Tokens
    """What becomes the feature vector: the class token, class token beside the mean patch token, ..."""
    prefix_tokens: int
    """Class and register tokens before the patch tokens; 0 where there are none."""
    feature_dim: int
    parameters: float
    """Published number of parameters, in millions."""


class EncoderRow(NamedTuple):
    """One line of the table."""

    name: str
    title: str
    hub: str
    """owner/model on the hub; empty: the weights lie elsewhere and are given as a file."""
    files: tuple[str, ...]
    """Names of the weight file there, the preferred one first."""
    license: License
    network: Network
    sight: Sight
    scale: Scale
    paper: str
    unverified: tuple[str, ...] = ()
    """Facts whose first-hand source could not be read; the rest follows the authors' card, code or paper."""

    @property
    def page(self) -> str:
        """Where the weights and their license are found."""
        return f"{HUB}{self.hub}" if self.hub else self.paper
