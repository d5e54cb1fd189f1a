"""Pixels as a picture inside the page."""

import base64
import io

import numpy as np
from PIL import Image

from wsi_kd.core.shapes import Pixels
from wsi_kd.report.page import Picture

JPEG_QUALITY = 75


def jpeg_picture(pixels: Pixels, *, alt: str, caption: str) -> Picture:
    """Encode pixels as JPEG in a data URI; equal pixels give equal text."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return Picture(f"data:image/jpeg;base64,{encoded}", alt, caption, width_px=width, height_px=height)
