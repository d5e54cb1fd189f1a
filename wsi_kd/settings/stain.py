"""Settings of the step `stain`, and of what `embed` does to the stains of tiles."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_kd.settings.base import Section


class StainSettings(Section):
    """Section `stain`: stain normalization of tiles before they are embedded; see docs/color.md."""

    method: Literal["none", "macenko", "vahadane", "reinhard"] = "none"
    """none: tiles as they are; macenko, vahadane: stains by Beer-Lambert, brought to those of the target;
    reinhard: mean and deviation of colors, brought to those of the target."""
    fit: Literal["slide", "cohort"] = "slide"
    """slide: each slide by its own pixels; cohort: all slides by one fit of the pixels of all, made by step
    stain, which moves the cohort as a whole and leaves its slides as different as they are."""
    tiles: int = Field(default=64, ge=1)
    """Tiles a slide that a fit looks at."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw of these tiles and of their pixels."""
    target: Path | None = None
    """Slide or image whose staining is the target; default: the built-in one."""
