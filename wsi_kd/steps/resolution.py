"""A slide's resolution by the section `slides`: one way for every step that asks."""

from collections.abc import Mapping

from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.slides.mpp import ResolvedMpp, resolve_mpp


def slide_resolution(
    properties: Mapping[str, str], slides: SlidesSettings, *, override: float | None
) -> ResolvedMpp:
    """Find the resolution of a slide; see `resolve_mpp`.

    Args:
        properties: the reader's.
        slides: which values are plausible, and whether the objective may stand in.
        override: um/px told by the user for this slide.

    Raises:
        SlideProblem: missing_mpp.
    """
    return resolve_mpp(
        properties,
        override=override,
        min_mpp=slides.min_mpp,
        max_mpp=slides.max_mpp,
        from_objective=slides.mpp_from_objective,
        max_anisotropy=slides.max_anisotropy,
    )
