"""What a tile is: its size in pixels and um, and what that means at level 0."""

from typing import NamedTuple


class TileSpec(NamedTuple):
    """Tiles of `tile_px` pixels at `tile_mpp` um/px on a slide of `slide_mpp` um/px.

    >>> TileSpec(tile_px=256, tile_mpp=0.5, overlap_px=64, slide_mpp=0.25).stride_level0_px
    384.0
    """

    tile_px: int
    tile_mpp: float
    overlap_px: int
    """Overlap of neighbors in pixels at `tile_mpp`; below `tile_px`."""
    slide_mpp: float

    @property
    def tile_level0_px(self) -> float:
        """Edge of a tile in level-0 pixels, not rounded."""
        return self.tile_px * self.tile_mpp / self.slide_mpp

    @property
    def stride_level0_px(self) -> float:
        """Distance of neighboring tiles in level-0 pixels, not rounded."""
        return (self.tile_px - self.overlap_px) * self.tile_mpp / self.slide_mpp
