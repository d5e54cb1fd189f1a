"""The resolution of a slide in um/px, where it came from, and why it is missing when it is."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus

OBJECTIVE_UM = 10.0
"""A scan through a 10x objective is about 1 um/px: 10 / power, the documented approximation."""

_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}
_REMEDY = "pass --slide-mpp or fill the column slide_mpp of the manifest"


class ResolvedMpp(NamedTuple):
    """A slide's resolution in um/px: `mpp` is the geometric mean of both axes, the one that decisions use."""

    mpp: float
    mpp_x: float
    mpp_y: float
    source: str


class _Candidate(NamedTuple):
    name: str
    raw: str
    per_axis: tuple[float, float] | None


def resolve_mpp(
    properties: Mapping[str, str],
    *,
    override: float | None,
    min_mpp: float,
    max_mpp: float,
    from_objective: bool,
) -> ResolvedMpp:
    """Find the resolution: the override, else the first plausible metadata value, else the objective power.

    Metadata: `openslide.mpp-x/-y`; where OpenSlide tells none, `aperio.MPP`, then `tiff.XResolution` with its
    unit. A value that is no positive number or lies outside `min_mpp` to `max_mpp` counts as missing (a 72
    dpi tag reads as 352.8 um/px).

    Args:
        properties: OpenSlide's properties; numbers may carry a decimal comma.
        override: um/px told by the user for this slide.
        min_mpp: smallest plausible value in um/px.
        max_mpp: largest plausible value in um/px.
        from_objective: whether 10 / objective power may stand in, source `objective`.

    Raises:
        SlideProblem: missing_mpp, naming every raw value that was found and the remedy.

    >>> resolve_mpp({"aperio.MPP": "0,25"}, override=None, min_mpp=0.05, max_mpp=20.0, from_objective=True)
    ResolvedMpp(mpp=0.25, mpp_x=0.25, mpp_y=0.25, source='metadata')
    """
    if override is not None:
        if not min_mpp <= override <= max_mpp:
            reason = (
                f"the given slide_mpp {override:g} is outside {min_mpp:g} to {max_mpp:g} um/px; correct it"
            )
            raise SlideProblem(SlideStatus.MISSING_MPP, reason)
        return ResolvedMpp(override, override, override, "override")
    faults: list[str] = []
    sources = [("metadata", _metadata(properties))]
    if from_objective:
        sources.append(("objective", _objective(properties)))
    for source, candidates in sources:
        for candidate in candidates:
            fault = _fault(candidate, min_mpp=min_mpp, max_mpp=max_mpp)
            if candidate.per_axis is not None and not fault:
                x, y = candidate.per_axis
                return ResolvedMpp(x if x == y else math.sqrt(x * y), x, y, source)
            faults.append(fault)
    found = "; ".join(faults) or "no resolution in its metadata"
    raise SlideProblem(SlideStatus.MISSING_MPP, f"{found}; {_REMEDY}")


def _metadata(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    x, y = properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y")
    if x or y:
        yield _pair("openslide.mpp-x/-y", x or y or "", y or x or "")
        return
    if value := properties.get("aperio.MPP"):
        yield _pair("aperio.MPP", value, value)
    unit = properties.get("tiff.ResolutionUnit", "").strip().lower()
    x, y = properties.get("tiff.XResolution"), properties.get("tiff.YResolution")
    if unit in _UM_PER_UNIT and (x or y):
        yield _per_unit(x or y or "", y or x or "", unit=unit)


def _objective(properties: Mapping[str, str]) -> Iterator[_Candidate]:
    for key in ("openslide.objective-power", "aperio.AppMag"):
        if raw := properties.get(key):
            power = _number(raw)
            mpp = OBJECTIVE_UM / power if power and power > 0 else None
            yield _Candidate(key, repr(raw), (mpp, mpp) if mpp else None)


def _pair(name: str, raw_x: str, raw_y: str) -> _Candidate:
    x, y = _number(raw_x), _number(raw_y)
    return _Candidate(name, _raw(raw_x, raw_y), None if x is None or y is None else (x, y))


def _per_unit(raw_x: str, raw_y: str, *, unit: str) -> _Candidate:
    x, y = _number(raw_x), _number(raw_y)
    raw = f"{_raw(raw_x, raw_y)} per {unit}"
    if not x or not y:
        return _Candidate("tiff.XResolution", raw, None)
    return _Candidate("tiff.XResolution", raw, (_UM_PER_UNIT[unit] / x, _UM_PER_UNIT[unit] / y))


def _raw(x: str, y: str) -> str:
    return repr(x) if x == y else f"{x!r}/{y!r}"


def _number(raw: str) -> float | None:
    try:
        value = float(raw.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _fault(candidate: _Candidate, *, min_mpp: float, max_mpp: float) -> str:
    if candidate.per_axis is None or min(candidate.per_axis) <= 0:
        return f"{candidate.name} = {candidate.raw} is no positive number"
    if min(candidate.per_axis) < min_mpp or max(candidate.per_axis) > max_mpp:
        x, y = candidate.per_axis
        read = f"{x:.4g}" if x == y else f"{x:.4g} by {y:.4g}"
        return (
            f"{candidate.name} = {candidate.raw} ({read} um/px) is outside {min_mpp:g} to {max_mpp:g} um/px"
        )
    return ""
