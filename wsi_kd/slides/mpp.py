"""The resolution of a slide in um/px, where it came from, and why it is missing when it is."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.mpp_sources import OBJECTIVE, Reading, objective_readings, scale_readings

MAX_ANISOTROPY = 0.05
"""Share by which a pixel may be longer than wide, or wider than long."""
MAX_DISAGREEMENT = 0.1
"""Share by which two entries of one file may differ before the slide's line in the status table says so."""

_REMEDY = "pass --slide-mpp or fill the column slide_mpp of the manifest"


class ResolvedMpp(NamedTuple):
    """A slide's resolution in um/px: `mpp` is the geometric mean of both axes, the one that decisions use."""

    mpp: float
    mpp_x: float
    mpp_y: float
    source: str
    """override, vendor, tiff, ome, zarr, dicom, png or objective."""
    entry: str = ""
    """The metadata entry that was used, as it stands in the file."""
    others: tuple[str, ...] = ()
    """Every other entry of the file that names a plausible resolution."""
    doubt: str = ""
    """What a person should look at: entries that contradict the one that was used; else empty."""


class _Limits(NamedTuple):
    min_mpp: float
    max_mpp: float
    max_anisotropy: float


def resolve_mpp(
    properties: Mapping[str, str],
    *,
    override: float | None,
    min_mpp: float,
    max_mpp: float,
    from_objective: bool,
    max_anisotropy: float = MAX_ANISOTROPY,
) -> ResolvedMpp:
    """Find the resolution: the override, else the first usable entry of the metadata, else the objective.

    The order of entries is that of `mpp_sources.scale_readings`. An entry counts as missing when it is no
    positive number, lies outside `min_mpp` to `max_mpp` (a 72 dpi tag reads as 352.8 um/px), or describes
    pixels further from square than `max_anisotropy`. Where an entry says that pixels are not square, the
    objective does not stand in: it would hide that.

    Args:
        properties: of a `SlideReader`; numbers may carry a decimal comma.
        override: um/px told by the user for this slide; nothing in the file overrules it.
        min_mpp: smallest plausible value in um/px.
        max_mpp: largest plausible value in um/px.
        from_objective: whether 10 / objective power may stand in, source `objective`.
        max_anisotropy: share by which one edge of a pixel may exceed the other.

    Raises:
        SlideProblem: missing_mpp, naming every raw value that was found and the remedy.

    >>> limits = {"override": None, "min_mpp": 0.05, "max_mpp": 20.0, "from_objective": True}
    >>> found = resolve_mpp({"aperio.MPP": "0,25"}, **limits)
    >>> found.mpp, found.source, found.entry
    (0.25, 'vendor', "aperio.MPP = '0,25'")
    """
    limits = _Limits(min_mpp, max_mpp, max_anisotropy)
    scales = scale_readings(properties)
    if override is not None:
        return _overridden(override, scales, limits)
    usable = [reading for reading in scales if not _fault(reading, limits)]
    faults = [fault for reading in scales if (fault := _fault(reading, limits))]
    stretched = any(_is_stretched(reading, limits) for reading in scales)
    objectives = objective_readings(properties)
    powers = [reading for reading in objectives if not _fault(reading, limits)]
    if usable:
        return _resolved(usable[0], others=[*usable[1:], *powers])
    if from_objective and powers and not stretched:
        return _resolved(powers[0], others=powers[1:])
    if from_objective:
        faults += [fault for reading in objectives if (fault := _fault(reading, limits))]
    found = "; ".join(faults) or "no resolution in its metadata"
    raise SlideProblem(SlideStatus.MISSING_MPP, f"{found}; {_REMEDY}")


def _overridden(override: float, scales: Iterable[Reading], limits: _Limits) -> ResolvedMpp:
    if not limits.min_mpp <= override <= limits.max_mpp:
        reason = (
            f"the given slide_mpp {override:g} is outside {limits.min_mpp:g} to {limits.max_mpp:g} um/px; "
            "correct it"
        )
        raise SlideProblem(SlideStatus.MISSING_MPP, reason)
    others = tuple(_told(reading) for reading in scales if not _fault(reading, limits))
    return ResolvedMpp(override, override, override, "override", "slide_mpp", others)


def _resolved(used: Reading, *, others: Iterable[Reading]) -> ResolvedMpp:
    """Take a reading; an objective that differs is listed but raises no doubt: lenses and cameras vary."""
    x, y = used.per_axis or (0.0, 0.0)
    mpp = x if x == y else math.sqrt(x * y)
    others = list(others)
    odd = [
        _told(other)
        for other in others
        if other.source != OBJECTIVE and _ratio(mpp, _mean(other)) > 1 + MAX_DISAGREEMENT
    ]
    doubt = f"resolution in doubt: {_told(used)} is used, {'; '.join(odd)}" if odd else ""
    return ResolvedMpp(mpp, x, y, used.source, used.entry, tuple(_told(other) for other in others), doubt)


def _mean(reading: Reading) -> float:
    x, y = reading.per_axis or (0.0, 0.0)
    return math.sqrt(x * y)


def _ratio(first: float, second: float) -> float:
    return max(first, second) / min(first, second)


def _told(reading: Reading) -> str:
    return f"{reading.entry} ({_um(reading)} um/px)"


def _um(reading: Reading) -> str:
    x, y = reading.per_axis or (0.0, 0.0)
    return f"{x:.4g}" if x == y else f"{x:.4g} by {y:.4g}"


def _is_stretched(reading: Reading, limits: _Limits) -> bool:
    if reading.per_axis is None or min(reading.per_axis) <= 0 or _is_outside(reading, limits):
        return False
    return _ratio(*reading.per_axis) > (1 + limits.max_anisotropy) * (1 + 1e-9)


def _is_outside(reading: Reading, limits: _Limits) -> bool:
    x, y = reading.per_axis or (0.0, 0.0)
    return min(x, y) < limits.min_mpp or max(x, y) > limits.max_mpp


def _fault(reading: Reading, limits: _Limits) -> str:
    if reading.per_axis is None or min(reading.per_axis) <= 0:
        return f"{reading.entry} {reading.fault or 'is no positive number'}"
    if _is_outside(reading, limits):
        return f"{_told(reading)} is outside {limits.min_mpp:g} to {limits.max_mpp:g} um/px"
    if _is_stretched(reading, limits):
        return (
            f"{_told(reading)}: pixels are not square, slides.max_anisotropy allows "
            f"{limits.max_anisotropy:.0%}; if that is so, export the slide with square pixels; if not"
        )
    return ""
