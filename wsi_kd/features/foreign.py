"""Features of other programs, each slide as a `FeatureFile`: TRIDENT, CLAM, STAMP, torchmil, slide2vec.

`foreign_folders` finds the files, `foreign_hdf5` and `foreign_arrays` read them, `foreign_header` brings what
they tell to this project's words. Their files carry no hash, so only form and values can be checked.
docs/interchange.md says what each layout holds and what is lost.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import Coords
from wsi_kd.features.foreign_arrays import read_clam_tensor, read_slide2vec, read_torchmil
from wsi_kd.features.foreign_folders import AUTO, ForeignSlide, Layout, foreign_slide
from wsi_kd.features.foreign_hdf5 import REMAKE, read_hdf5
from wsi_kd.features.foreign_header import foreign_header, told_mpp
from wsi_kd.features.foreign_parts import ForeignParts
from wsi_kd.features.store import FeatureFile, read_features, require_finite

UNKNOWN_LABEL = -1
MAX_COORDINATE_PX = 2.0**31
"""Slides have less than 10^7 px along an edge; readers of positions (CLAM's) count with 32 bits."""
Reader = Callable[[ForeignSlide], ForeignParts]
_READERS: Final[dict[Layout, Reader]] = {
    "trident": read_hdf5,
    "clam": read_hdf5,
    "stamp": read_hdf5,
    "hdf5": read_hdf5,
    "clam_pt": read_clam_tensor,
    "torchmil": read_torchmil,
    "slide2vec": read_slide2vec,
}


class UnknownResolution(BadInput):
    """Positions in um cannot be placed on a slide whose um/px nobody tells."""


def read_foreign_features(
    path: Path, *, layout: str = AUTO, slide_mpp: float | None = None, encoder: str = ""
) -> FeatureFile:
    """Read one slide's feature file, another program's or our own.

    Args:
        path: the file.
        layout: of the folder it lies in; auto: what names and content show.
        slide_mpp: um/px of level 0; needed for STAMP, whose coordinates are in um.
        encoder: name of what made the features, where the file does not say.

    Raises:
        BadInput: no such file, none of the layouts, damaged, values that are not finite.
    """
    return read_foreign_slide(foreign_slide(path, layout), slide_mpp=slide_mpp, encoder=encoder)


def read_foreign_slide(
    slide: ForeignSlide, *, slide_mpp: float | None = None, encoder: str = ""
) -> FeatureFile:
    """Read a slide that `find_foreign` found; memory: this slide's features, twice at most.

    Raises:
        BadInput: damaged, not finite, rows without positions.
        UnknownResolution: STAMP's um without a resolution; a `BadInput` too.
    """
    if slide.layout == "wsi_kd":
        return read_features(slide.path)
    try:
        parts = _READERS[slide.layout](slide)
    except (ValueError, MemoryError) as error:
        raise BadInput(f"{slide.path}: {error}; make it anew with: {REMAKE}") from None
    _check_rows(slide, parts)
    require_finite(parts.features, where=slide.path, remake=REMAKE)
    coords = _level0_coords(slide, parts, slide_mpp=slide_mpp)
    labels = parts.tile_labels
    return FeatureFile(
        slide_id=slide.slide_id,
        features=parts.features,
        coords=coords,
        tile_labels=np.full(len(coords), UNKNOWN_LABEL, np.int8) if labels is None else labels,
        header=foreign_header(slide, parts, coords=coords, slide_mpp=slide_mpp, encoder=encoder),
    )


def _check_rows(slide: ForeignSlide, parts: ForeignParts) -> None:
    counts = {"coordinates": parts.coords, "instance labels": parts.tile_labels}
    for what, values in counts.items():
        if values is not None and len(values) != len(parts.features):
            raise BadInput(
                f"{slide.path}: {len(parts.features)} features but {len(values)} {what}; "
                f"make it anew with {REMAKE}"
            )


def _level0_coords(slide: ForeignSlide, parts: ForeignParts, *, slide_mpp: float | None) -> Coords:
    if parts.coords is None:
        return np.zeros((len(parts.features), 2), np.int64)
    if parts.unit == "level0_px":
        return _whole(parts.coords, where=slide.path)
    mpp = told_mpp(parts.attributes, slide_mpp).mpp
    if not mpp:
        raise UnknownResolution(
            f"{slide.path}: STAMP's coordinates are in um; give the slide's um/px (column slide_mpp)"
        )
    return _whole(parts.coords / mpp, where=slide.path)


def _whole(coords: Float64[np.ndarray, "tiles 2"], *, where: Path) -> Coords:
    """Round to whole pixels; numbers that no slide reaches would wrap around."""
    if len(coords) and not np.abs(coords).max() < MAX_COORDINATE_PX:
        raise BadInput(
            f"{where}: positions up to {np.abs(coords).max():.3g} px, beyond any slide; "
            f"make it anew with: {REMAKE}"
        )
    return np.asarray(np.rint(coords), np.int64)
