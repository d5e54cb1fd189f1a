"""From a scanner's colors to sRGB by the ICC profile in its file.

Relative colorimetric intent: the scanner's white becomes white, and every color that sRGB holds keeps its
measured relation to it. (The profiles of scanners are mostly matrices with tone curves, which know no other
intent.) littlecms computes, without Python's lock; Pillow hands it the pixels.
"""

import io
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageCms

from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.protocol import SlideReader, unreadable

Color: TypeAlias = Literal["as_stored", "srgb"]
Recolor: TypeAlias = Callable[[Pixels], Pixels]
_REMEDY = "set slides.color: as_stored, or export the slide again"


class ToSrgb:
    """Shows pixels of one profile's RGB in sRGB.

    The transform is built once; threads may share it, and it may be pickled.
    """

    def __init__(self, profile: bytes) -> None:
        """Build the transform.

        Raises:
            SlideProblem: unreadable, when the profile is damaged or describes no RGB pixels.
        """
        self._profile = profile
        self._transform = _transform(profile)

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the pixels in sRGB; those given stay as they are."""
        image = Image.fromarray(pixels)
        ImageCms.applyTransform(image, self._transform, inPlace=True)
        return np.array(image)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the profile: littlecms cannot pickle what it made of it."""
        return ToSrgb, (self._profile,)


def recolor(reader: SlideReader, color: Color) -> Recolor | None:
    """Return what shows a slide's pixels in the chosen colors; None where they stay as they are.

    That is so where `color` is as_stored, or the slide holds no profile.

    Raises:
        SlideProblem: unreadable, when the profile is damaged or describes no RGB pixels.
    """
    profile = reader.icc_profile if color == "srgb" else None
    return None if profile is None else ToSrgb(profile)


def _transform(profile: bytes) -> ImageCms.ImageCmsTransform:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != "RGB":
            raise unreadable(f"its ICC profile describes {space} pixels, not RGB; {_REMEDY}")
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise unreadable(f"its ICC profile ({len(profile)} bytes) is damaged ({error}); {_REMEDY}") from None
