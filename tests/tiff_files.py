"""TIFF files of every layout for the readers' tests."""

import numpy as np
import tifffile

WIDTH, HEIGHT, TILE = 330, 270, 64


def draw_pixels() -> np.ndarray:
    """Smooth pixels with a gradient, so that a shifted or swapped read cannot pass for the right one."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 30, (HEIGHT, WIDTH))
    return np.dstack([x * 200 // WIDTH + noise, y * 200 // HEIGHT + noise, 255 - noise]).astype(np.uint8)


def read(reader, x=0, y=0, *, size=(WIDTH, HEIGHT), level=0):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=level, width_px=size[0], height_px=size[1])


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "metadata": None, **options})
    return path


def write_ome(path, pixels, *, axes="YXS", levels=1, **options):
    """An OME-TIFF as Bio-Formats lays it out: further levels are SubIFDs of every plane."""
    scale = {
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, subifds=levels - 1, metadata={"axes": axes, **scale}, **options)
        for level in range(1, levels):
            step = slice(None, None, 2**level)
            rows_first = axes.index("Y") == 0
            smaller = pixels[step, step] if rows_first else pixels[:, step, step]
            tiff.write(smaller, subfiletype=1, **options)
    return path
