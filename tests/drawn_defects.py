"""Small slides with defects, for the tests of the steps."""

import numpy as np
from synthetic import HEIGHT_PX, MPP, WIDTH_PX, paint_slide

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.demo.defects import blur_area, draw_pen
from wsi_kd.demo.pyramid import write_pyramid

PEN_WIDTH_PX = 200
PEN = ((300, 60), (300, 700))


def plain_slide(*, with_tissue=True, stain=1.0):
    if with_tissue:
        return paint_slide(seed=4, with_tumor=False, stain=stain)
    noise = np.random.default_rng(0).normal(0, 1, (HEIGHT_PX, WIDTH_PX, 3))
    return np.clip(np.float32((243, 241, 245)) + noise, 0, 255).astype(np.uint8)


def with_pen(pixels, *, ink="green", strength=1.5):
    return draw_pen(
        pixels,
        PEN,
        ink=ink,
        width_px=float(PEN_WIDTH_PX),
        edge_px=8.0,
        strength=strength,
        rng=np.random.default_rng(1),
    )


def with_blur(pixels):
    """The right piece out of focus."""
    return blur_area(pixels, center=(760.0, 400.0), radius_px=260.0, sigma_px=10.0)


def slide_row(folder, pixels, *, name="slide", mpp=MPP):
    path = folder / f"{name}.tiff"
    write_pyramid(path, pixels, mpp=mpp, container="tiff")
    return SlideRow(name, path, "", name, "", None, None, "")
