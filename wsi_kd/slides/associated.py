"""Label, macro and thumbnail: images of the glass beside the slide. A label may name a patient."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import openslide

from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.composite import composite
from wsi_kd.slides.protocol import WHITE, SlideReader, unreadable

MAX_EDGE_PX: Final = 2000
"""Larger images are shrunk to it."""


def associated_names(reader: SlideReader) -> tuple[str, ...]:
    """Name the images that `read_associated` reads: those of slides that OpenSlide opens."""
    return tuple(sorted(reader.associated)) if reader.format.startswith("openslide/") else ()


def read_associated(path: Path, name: str) -> Pixels:
    """Read one image on white, its longer edge at most MAX_EDGE_PX.

    Raises:
        SlideProblem: unreadable, where there is no such image or it is damaged.
    """
    try:
        with openslide.OpenSlide(path) as slide:
            if name not in slide.associated_images:
                raise unreadable(f"it holds no image '{name}'")
            pixels = composite(np.array(slide.associated_images[name].convert("RGBA")), WHITE)
    except openslide.OpenSlideError as error:
        raise unreadable(f"its image '{name}' is damaged ({error})") from None
    longer = max(pixels.shape[:2])
    if longer <= MAX_EDGE_PX:
        return pixels
    height, width = (max(1, round(length * MAX_EDGE_PX / longer)) for length in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
