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


class MaskSettings(Section):
    """Section `mask`: thumbnail -> tissue polygons."""

    mask_mpp: float = Field(default=8.0, gt=0)
    """Resolution of the thumbnail in um/px."""
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
    edited_dir: Path | None = None
    """Folder of <slide_id>.geojson drawn or corrected in QuPath; one found there replaces segmentation."""


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
    positive_names: tuple[str, ...] = ("tumor", "tumour", "metastasis", "positive", "_0", "_1")
    """Annotation class names (any case) whose area is positive."""
    exclude_names: tuple[str, ...] = ("exclusion", "ignore", "_2")
    """Annotation class names (any case) whose area is cut out of the positive area."""
    min_positive_fraction: float = Field(default=0.25, ge=0, le=1)
    """Tiles with at least this share of positive area get tile_label 1."""


class EmbedSettings(Section):
    """Section `embed`: tiles -> features by a frozen encoder."""

    encoder: str = "stain_texture"
    """`stain_texture` (embedded, needs no download) or any timm name, hub names (hf-hub:...) included;
    `pixels`: the tiles themselves, for a projector that learns from images (needs input_px);
    `distilled:<folder>`: a small encoder that `wsi-kd distill` made; see docs/compression.md."""
    weights: Path | None = None
    """Local weight file (.safetensors, or .pt read with weights_only) for a timm encoder; else timm's own."""
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
    """Tiles a forward pass."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    max_damaged_fraction: float = Field(default=0.05, ge=0, le=1)
    """A slide ends as damaged_tiles when a larger share of its tiles cannot be read; fewer are left out."""

    @model_validator(mode="after")
    def _pixels_have_an_edge(self) -> Self:
        if self.encoder == "pixels" and self.input_px is None:
            raise ValueError("encoder pixels needs input_px; tile.tile_px's value stores tiles as they are")
        return self
