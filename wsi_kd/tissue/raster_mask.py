"""Tissue masks given as pictures: PNG or TIFF of any resolution, laid over the slide by their shape."""

import math
from pathlib import Path

import numpy as np
import shapely
import tifffile
from PIL import Image
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import Mask
from wsi_kd.core.units import Box
from wsi_kd.tissue.polygons import mask_to_polygons

MAX_MASK_PX = 2**26
"""Pixels of the largest mask that is read: 8,192 x 8,192."""
SMALLEST_EDGE_PX = 3
"""A mask with a shorter edge fits slides of nearly any shape: 1 x 1 fits every slide."""
_GRAY, _GRAY_ALPHA, _RGB, _RGBA = 1, 2, 3, 4


def read_raster_mask(path: Path) -> Mask:
    """Read a mask: every pixel that is not 0 is tissue, be it 1, 255 or any label.

    Of a pyramidal TIFF the finest level with at most `MAX_MASK_PX` pixels is read. Pictures with color
    channels count where these are equal; an alpha channel is passed over.

    Raises:
        BadInput: not readable, too large, or a colored picture.
    """
    try:
        values = _read_png(path) if path.suffix.lower() == ".png" else _read_tiff(path)
        labels = _one_channel(values, path)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError("it holds values that are not finite")
    except BadInput:
        raise
    except Exception as error:  # damaged headers: SyntaxError, ZeroDivisionError, struct.error, ...
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{path}: not readable as a mask ({what}); expected PNG or TIFF") from None
    return np.asarray(labels != 0)


def raster_outline(
    mask: Mask, *, level0_width_px: int, level0_height_px: int, bounds: Box, where: Path
) -> tuple[shapely.MultiPolygon, float]:
    """Lay a mask over the slide: over level 0 where its shape fits that, else over the slide's bounds.

    A shape fits when one scale brings both edges to whole pixels within one: the mask of a slide of W x H
    at any reduction, rounded up or down.

    Returns:
        The outline in level-0 pixels and the edge of a mask pixel there (the longer one).

    Raises:
        BadInput: the mask is too small to tell, its shape fits neither, or both and they differ.
    """
    whole = Box(0, 0, level0_width_px, level0_height_px)
    fitting = [box for box in dict.fromkeys((whole, bounds)) if _fits(mask, box)]
    height, width = mask.shape
    if min(mask.shape) < SMALLEST_EDGE_PX:
        raise BadInput(
            f"{where}: a mask of {width}x{height} px is too small to tell what it lies over; "
            f"export it with {SMALLEST_EDGE_PX} px or more along each edge"
        )
    sizes = f"{width}x{height} px; the slide has {whole[2]}x{whole[3]}, its bounds {bounds[2]}x{bounds[3]}"
    if not fitting:
        raise BadInput(
            f"{where}: a mask of {sizes}, which no single scale maps onto each other; export it for "
            "the whole slide, or give the tissue as GeoJSON"
        )
    if len(fitting) > 1:
        raise BadInput(
            f"{where}: a mask of {sizes}, so it fits both and they differ; give the tissue as GeoJSON"
        )
    x, y, box_width, box_height = fitting[0]
    scales = (box_width / width, box_height / height)
    outline = mask_to_polygons(mask, level0_px_per_px=1.0, origin=(0, 0))
    scaled = affinity.scale(outline, xfact=scales[0], yfact=scales[1], origin=(0, 0))
    return affinity.translate(scaled, x, y), max(scales)


def _fits(mask: Mask, box: Box) -> bool:
    """Whether some scale s has |box / s - mask| at most 1 along both edges."""
    low, high = 0.0, math.inf
    for length, pixels in zip(box[:1:-1], mask.shape, strict=True):
        low = max(low, length / (pixels + 1))
        high = min(high, length / (pixels - 1) if pixels > 1 else math.inf)
    return low <= high


def _read_png(path: Path) -> np.ndarray:
    with Image.open(path, formats=["PNG"]) as image:
        _check_size(path, *image.size)
        return np.asarray(image)


def _read_tiff(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        levels = [level.keyframe for level in tiff.series[0].levels]
        small = [page for page in levels if page.imagewidth * page.imagelength <= MAX_MASK_PX]
        page = small[0] if small else levels[-1]
        _check_size(path, page.imagewidth, page.imagelength)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
            raise ValueError("its channels are stored one after the other")
        return np.asarray(page.asarray())


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_MASK_PX:
        raise BadInput(
            f"{path}: {width}x{height} px, a mask has {MAX_MASK_PX} at most; export it at a lower resolution"
        )


def _one_channel(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 2:  # noqa: PLR2004 - rows and columns
        return values
    channels = values.shape[2] if values.ndim == 3 else 0  # noqa: PLR2004 - with channels
    if channels in {_GRAY, _GRAY_ALPHA}:
        return values[..., 0]
    equal = channels in {_RGB, _RGBA} and (values[..., 1:3] == values[..., :1]).all()
    if not equal:
        raise BadInput(
            f"{path}: shape {values.shape} with color; expected one channel of labels, 0 where no tissue is"
        )
    return values[..., 0]
