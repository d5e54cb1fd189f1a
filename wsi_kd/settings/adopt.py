"""Settings of the step that takes features from another program."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_kd.settings.base import Section


class AdoptSettings(Section):
    """Section `adopt`: features made elsewhere take the place of mask, tile and embed; no slide is read."""

    folder: Path | None = None
    """Folder of features by TRIDENT, CLAM, STAMP, torchmil, slide2vec or wsi_kd; null: slides are read."""
    layout: Literal[
        "auto", "wsi_kd", "trident", "clam", "clam_pt", "stamp", "torchmil", "slide2vec", "hdf5"
    ] = "auto"
    """Whose layout the folder has; auto: what its names show; docs/interchange.md lists them."""
    encoder: str = ""
    """Name of what made the features, where the files do not say; models compare it."""
    slide_mpp: float | None = Field(default=None, gt=0)
    """Resolution in um/px of slides whose manifest row names none; STAMP's positions (um) need one."""
