"""Settings of the steps that read slides: mask, tile, embed."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from wsi_kd.settings.base import Section


class SlidesSettings(Section):
    """Section `slides`: how pixels and resolution are read; a change reruns mask and all after it."""

    background: Literal["metadata", "white"] = "metadata"
    """What transparent pixels are composited on: the color the scanner names, or always white."""
    min_mpp: float = Field(default=0.05, gt=0)
    """A resolution below this many um/px counts as missing."""
    max_mpp: float = Field(default=20.0, gt=0)
    """A resolution above this many um/px counts as missing (a 72 dpi tag reads as 352.8)."""
    mpp_from_objective: bool = True
    """Fall back to the objective power (10 / power um/px) where the metadata hold no resolution."""
    max_anisotropy: float = Field(default=0.05, ge=0)
    """Share by which a pixel may be longer than wide or wider than long: up to it the geometric mean of both
    edges is used, beyond it the slide ends as missing_mpp; see docs/resolution.md."""
    color: Literal["as_stored", "srgb"] = "as_stored"
    """as_stored: pixels as the file holds them; srgb: through the slide's ICC profile, where it has one, for
    tiles and thumbnails alike; see docs/color.md."""


class MaskSettings(Section):
    """Section `mask`: slide -> tissue polygons; see docs/tissue.md."""

    source: Literal["thumbnail", "network"] = "thumbnail"
    """What finds the tissue where edited_dir holds no file of the slide: thresholds on the thumbnail, or a
    segmentation network of your own."""
    mask_mpp: float = Field(default=8.0, gt=0)
    """Resolution of the thumbnail in um/px, and about that of a network's mask."""
    min_tissue_um2: float = Field(default=20_000.0, ge=0)
    """Pieces of tissue smaller than this are dropped."""
    min_hole_um2: float = Field(default=20_000.0, ge=0)
    """Holes smaller than this are filled."""
    close_um: float = Field(default=40.0, ge=0)
    """Gaps narrower than this are closed."""
    min_saturation: float = Field(default=0.04, ge=0, le=1)
    """Lower bound on Otsu's saturation threshold (0-1), so that an all-white slide stays empty."""
    min_texture: float = Field(default=0.008, ge=0, le=1)
    """Local standard deviation of luminance (0-1) below which a pixel is smooth glass."""
    dark_field_luminance: float = Field(default=0.25, ge=0, le=1)
    """A thumbnail whose median luminance is below this is fluorescence: status empty."""
    pen_colors: tuple[Literal["green", "blue", "red", "black"], ...] = ("green", "blue", "red", "black")
    """Inks that are looked for on the thumbnail and taken out of the tissue; leave out red for red
    chromogens (AEC, Fast Red), black for tissue full of pigment; [] looks for none."""
    min_pen_um2: float = Field(default=20_000.0, ge=0)
    """Marks smaller than this are no pen."""
    max_edge_um: float = Field(default=140.0, ge=0)
    """Long gray lines up to this width (rims of bubbles and of the cover slip) are taken out; 0: none."""
    fold_ratio: float = Field(default=1.6, gt=1)
    """A fold is a narrow band at least this many times denser than the tissue around it."""
    min_fold_um2: float = Field(default=20_000.0, ge=0)
    """Bands smaller than this are no fold."""
    remove_folds: bool = False
    """Take folds out of the tissue; they are measured in any case, but dense tissue may look like one."""
    edited_dir: Path | None = None
    """Folder of <slide_id>.geojson, drawn or corrected in QuPath, or <slide_id>.png or .tif, a mask of any
    resolution (0: no tissue); a slide's file there replaces segmentation."""
    network: Path | None = None
    """Segmentation network for source network: TorchScript (.pt) or ONNX (.onnx; needs wsi-kd[onnx])."""
    network_classes: tuple[str, ...] = ("background", "tissue")
    """Names of the network's output channels in order. `tissue` is kept, all else is not; `pen` and `fold`
    are measured. A single channel is the logit of the last class."""
    network_mpp: float = Field(default=1.0, gt=0)
    """Resolution in um/px that the network was trained at."""
    network_tile_px: int = Field(default=512, ge=16)
    """Edge of the network's input in pixels at network_mpp."""
    network_margin_px: int = Field(default=64, ge=0)
    """Rim of each input whose output is dropped, so that neighboring tiles overlap by twice as much."""
    network_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean subtracted from pixels in 0-1 (default: ImageNet's)."""
    network_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation that pixels in 0-1 are divided by (default: ImageNet's)."""
    network_device: str = "auto"
    """auto, cpu, cuda or cuda:N; ONNX always runs on the CPU."""

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        if self.source == "network" and self.network is None:
            raise ValueError("source network needs network: a TorchScript or ONNX file")
        if min(self.network_std) <= 0:
            raise ValueError(f"network_std {list(self.network_std)}: expected numbers above 0")
        if 2 * self.network_margin_px >= self.network_tile_px:
            raise ValueError(
                f"network_margin_px {self.network_margin_px} leaves nothing of network_tile_px "
                f"{self.network_tile_px}; expected less than half of it"
            )
        if self.network_classes.count("tissue") != 1:
            raise ValueError("network_classes names 'tissue' once, in the place of its channel")
        return self


class TileSettings(Section):
    """Section `tile`: tissue -> tile positions and labels."""

    tile_px: int = Field(default=256, ge=8)
    """Edge of a tile in pixels at tile_mpp."""
    tile_mpp: float = Field(default=0.5, gt=0)
    """Resolution of a tile in um/px; exact: the nearest finer level is read and resized."""
    overlap_px: int = Field(default=0, ge=0)
    """Overlap of neighboring tiles in pixels at tile_mpp."""
    min_tissue_fraction: float = Field(default=0.5, ge=0, le=1)
    """Tiles with a smaller share of tissue are dropped."""
    mpp_tolerance: float = Field(default=0.05, ge=0)
    """Share by which a slide may be coarser than tile_mpp and is enlarged; beyond it, too_coarse."""
    min_tiles: int = Field(default=1, ge=1)
    """Slides with fewer tiles end as too_few_tiles."""
    positive_names: tuple[str, ...] = ("tumor", "tumour", "metastasis", "metastases", "positive", "_0", "_1")
    """Annotation class names (any case, subclasses included) whose area is positive."""
    exclude_names: tuple[str, ...] = ("exclusion", "ignore", "_2")
    """Annotation class names (any case) whose area is cut out of the positive area."""
    label_rule: Literal["area", "center"] = "area"
    """When an annotated slide's tile gets tile_label 1: by its share of positive area, or by its center."""
    min_positive_fraction: float = Field(default=0.25, ge=0, le=1)
    """Rule area: tiles with at least this share of positive area get tile_label 1."""


class EmbedSettings(Section):
    """Section `embed`: tiles -> features by a frozen encoder."""

    encoder: str = "stain_texture"
    """`stain_texture` (embedded, needs no download); a short name of docs/encoders.md (uni, virchow2, phikon,
    ...; wsi-kd encoders lists them); any timm name, hub names (hf-hub:...) included;
    `pixels`: the tiles themselves, for a projector that learns from images (needs input_px);
    `distilled:<folder>`: a small encoder that `wsi-kd distill` made; see docs/compression.md."""
    weights: Path | None = None
    """Local weight file (.safetensors, or .pt read with weights_only); else weights_dir, cache, hub."""
    weights_dir: Path | None = None
    """Offline folder of weights, looked through before the hub: <short name>.safetensors, .bin or .pt, or
    <owner>--<model>/<file> as fetched from the hub."""
    input_px: int | None = Field(default=None, ge=8)
    """Edge that tiles are resized to for the encoder; default: what the encoder asks for."""
    pixel_mean: tuple[float, float, float] | None = None
    """Mean subtracted from pixels in 0-1; default: what the encoder asks for."""
    pixel_std: tuple[float, float, float] | None = None
    """Standard deviation that pixels in 0-1 are divided by; default: what the encoder asks for."""
    model_arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Passed on to timm's constructor, as a model card asks (UNI: init_values, dynamic_img_size)."""
    dtype: Literal["float16", "float32"] = "float16"
    """How features are stored; pixels are stored as uint8."""
    batch_size: int = Field(default=64, ge=1)
    """Tiles that are handed to the encoder at once, of one slide or several: a pass on a GPU; on a CPU
    16 tiles are a pass, in any batch."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU. Features of the first tiles are held against float32 and
    refused below a cosine of 0.999."""
    compile: bool = False
    """Have torch compile the network, on a GPU: a minute at the start of each job, then faster; held against
    float32 as well."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    max_damaged_fraction: float = Field(default=0.05, ge=0, le=1)
    """A slide ends as damaged_tiles when a larger share of its tiles cannot be read; fewer are left out."""
    min_sharpness: float = Field(default=0.0, ge=0)
    """Tiles less sharp than this are left out (0: none; 0.2 drops what is 2 um out of focus, but smooth
    tissue such as mucus with it; see docs/tissue.md)."""
    max_pen_fraction: float = Field(default=1.0, ge=0, le=1)
    """Tiles with a larger share in the colors of a pen are left out."""
    max_background_fraction: float = Field(default=1.0, ge=0, le=1)
    """Tiles with a larger share as bright as glass are left out."""

    @model_validator(mode="after")
    def _pixels_are_complete(self) -> Self:
        if self.encoder == "pixels" and self.input_px is None:
            raise ValueError("encoder pixels needs input_px; tile.tile_px's value stores tiles as they are")
        if self.pixel_std is not None and min(self.pixel_std) <= 0:
            raise ValueError(f"pixel_std {list(self.pixel_std)}: expected numbers above 0")
        return self
