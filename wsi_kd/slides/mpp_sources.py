"""Where files keep their resolution: every entry that some scanner or writer uses, in one order.

Units, conventions and their traps are listed in docs/resolution.md.
"""

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

VENDOR, TIFF, OME, ZARR, DICOM, PNG = "vendor", "tiff", "ome", "zarr", "dicom", "png"
OBJECTIVE: Final = "objective"
OBJECTIVE_UM: Final = 10.0
"""A scan through a 10x objective is about 1 um/px: 10 / power, the documented approximation."""

UM_PER: Final[Mapping[str, float]] = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "Å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "dm": 1e5,
    "decimeter": 1e5,
    "m": 1e6,
    "meter": 1e6,
    "thou": 25.4,
    "in": 25_400.0,
    "inch": 25_400.0,
}
"""Micrometers in a unit: symbols of OME-XML, words of OME-Zarr and TIFF (in American spelling)."""

_GREEK_MU, _MICRO_SIGN, _ANGSTROM_SIGN = "\u03bc", "\u00b5", "\u212b"
_WITHOUT_LENGTH = frozenset({"", "none", "unknown", "pixel", "pixels", "reference frame"})
_TIFF_CODES: Final = {"2": "inch", "3": "centimeter", "4": "millimeter", "5": "micrometer"}
_VENDOR_UM: Final = ("aperio.MPP", "ventana.ScanRes")
_VENDOR_PER_AXIS_UM: Final = "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL"
_OBJECTIVES: Final = (
    "openslide.objective-power",
    "aperio.AppMag",
    "hamamatsu.SourceLens",
    "leica.objective",
    "ventana.Magnification",
    "mirax.GENERAL.OBJECTIVE_MAGNIFICATION",
    "sakura.NominalLensMagnification",
    "trestle.Objective Power",
)
_IMAGEJ_UNIT = re.compile(r"^ImageJ=.*?^unit=(?P<unit>[^\r\n]*)", re.DOTALL | re.MULTILINE)
_MM_TO_UM: Final = 1_000.0
AXES: Final = 2


class Reading(NamedTuple):
    """One entry: who wrote it, how it stands in the file, and um/px of both axes where it can be read."""

    source: str
    entry: str
    per_axis: tuple[float, float] | None
    fault: str = ""


def scale_readings(properties: Mapping[str, str]) -> list[Reading]:
    """Return every entry that names a resolution: vendor, TIFF, OME, OME-Zarr, DICOM, PNG, in that order.

    What OpenSlide took from a TIFF's resolution tags (vendor `generic-tiff`) or from DICOM's PixelSpacing is
    told as `tiff` and `dicom`; its numbers for other scanners are the vendor's.
    """
    return [
        *_vendor(properties),
        *_tiff(properties),
        *_ome(properties),
        *_zarr(properties),
        *_dicom(properties),
        *_png(properties),
    ]


def objective_readings(properties: Mapping[str, str]) -> list[Reading]:
    """Return 10 / power for every entry that names the objective's power."""
    return [
        Reading(OBJECTIVE, f"{key} = {raw!r}", _square(_divided(OBJECTIVE_UM, number(raw))))
        for key in _OBJECTIVES
        if (raw := properties.get(key))
    ]


def um_per_unit(name: str) -> float | None:
    """Return the micrometers in a unit of length, or None for a name that is none; both mu signs are one.

    >>> um_per_unit("\u00b5m"), um_per_unit("\u03bcm"), um_per_unit("MM"), um_per_unit("pixel")
    (1.0, 1.0, 1000.0, None)
    """
    plain = name.strip().replace(_GREEK_MU, _MICRO_SIGN).replace(_ANGSTROM_SIGN, "Å")
    return UM_PER.get(plain) or UM_PER.get(plain.lower().replace("metre", "meter"))


def number(raw: str) -> float | None:
    """Return a finite number, its decimals after a point or a comma; None for anything else."""
    try:
        value = float(raw.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _vendor(properties: Mapping[str, str]) -> list[Reading]:
    found = []
    vendor = properties.get("openslide.vendor", "")
    x, y = _both(properties, "openslide.mpp-x", "openslide.mpp-y")
    if x:
        source = {"generic-tiff": TIFF, "dicom": DICOM}.get(vendor, VENDOR)
        found.append(_pair(source, "openslide.mpp-x/-y", (x, y)))
    for key in _VENDOR_UM:
        if raw := properties.get(key):
            found.append(_pair(VENDOR, key, (raw, raw)))
    x, y = _both(properties, f"{_VENDOR_PER_AXIS_UM}_X", f"{_VENDOR_PER_AXIS_UM}_Y")
    if x:
        found.append(_pair(VENDOR, "mirax.MICROMETER_PER_PIXEL_X/_Y", (x, y)))
    if raw := properties.get("philips.DICOM_PIXEL_SPACING"):
        found.append(_spacing(VENDOR, "philips.DICOM_PIXEL_SPACING", raw))
    if raw := properties.get("sakura.ResolutionMmPerPix"):
        found.append(_pair(VENDOR, "sakura.ResolutionMmPerPix", (raw, raw), um=_MM_TO_UM))
    return [*found, *_hamamatsu_vms(properties)]


def _hamamatsu_vms(properties: Mapping[str, str]) -> list[Reading]:
    """VMS files give the whole slide's size in nm."""
    sizes = [
        (properties.get(f"hamamatsu.Physical{name}"), properties.get(f"openslide.level[0].{name.lower()}"))
        for name in ("Width", "Height")
    ]
    if not all(physical and pixels for physical, pixels in sizes):
        return []
    nm_per_px = [_divided(number(physical or ""), number(pixels or "")) for physical, pixels in sizes]
    x, y = (None if value is None else value * UM_PER["nm"] for value in nm_per_px)
    raw = "/".join(repr(physical) for physical, _ in sizes)
    return [Reading(VENDOR, f"hamamatsu.PhysicalWidth/Height = {raw} nm", _axes(x, y))]


def _tiff(properties: Mapping[str, str]) -> list[Reading]:
    """Pixels a unit; Trestle alone writes um a pixel there, which OpenSlide has read already."""
    x, y = _both(properties, "tiff.XResolution", "tiff.YResolution")
    if not x or properties.get("openslide.vendor") == "trestle":
        return []
    raw_unit = properties.get("tiff.ResolutionUnit", "").strip()
    unit = _TIFF_CODES.get(raw_unit, raw_unit.lower())
    if unit in _WITHOUT_LENGTH:
        unit = _imagej_unit(properties)
    um = um_per_unit(unit)
    if um is None:
        return []
    per_axis = _axes(_divided(um, number(x)), _divided(um, number(y)))
    return [Reading(TIFF, f"tiff.XResolution = {_raw(x, y)} per {unit}", per_axis)]


def _imagej_unit(properties: Mapping[str, str]) -> str:
    """ImageJ writes the tag's unit into the description, and `none` into the tag."""
    found = _IMAGEJ_UNIT.search(properties.get("tiff.ImageDescription", ""))
    return found["unit"].strip().replace("\\u00B5", _MICRO_SIGN) if found else ""


def _ome(properties: Mapping[str, str]) -> list[Reading]:
    x, y = _both(properties, "ome.PhysicalSizeX", "ome.PhysicalSizeY")
    if not x:
        return []
    # OME's schema: a unit that is not written is the micrometer.
    unit_x, unit_y = _both(properties, "ome.PhysicalSizeXUnit", "ome.PhysicalSizeYUnit")
    return _with_units(
        OME, "ome.PhysicalSizeX/Y", (x, y), units=(unit_x or _MICRO_SIGN + "m", unit_y or _MICRO_SIGN + "m")
    )


def _zarr(properties: Mapping[str, str]) -> list[Reading]:
    x, y = _both(properties, "zarr.scale-x", "zarr.scale-y")
    unit = properties.get("zarr.unit", "")
    return _with_units(ZARR, "zarr.scale-x/-y", (x, y), units=(unit, unit)) if x else []


def _with_units(source: str, name: str, sizes: tuple[str, str], *, units: tuple[str, str]) -> list[Reading]:
    """Read sizes in units of length; sizes in pixels say nothing and are no reading at all."""
    if any(unit.strip().lower() in _WITHOUT_LENGTH for unit in units):
        return []
    entry = f"{name} = {_raw(*sizes)} {units[0] if units[0] == units[1] else '/'.join(units)}"
    um = [um_per_unit(unit) for unit in units]
    x, y = (
        None if factor is None or (value := number(size)) is None else value * factor
        for size, factor in zip(sizes, um, strict=True)
    )
    fault = "is in a unit that is not known" if None in um else ""
    return [Reading(source, entry, _axes(x, y), fault)]


def _dicom(properties: Mapping[str, str]) -> list[Reading]:
    """Read PixelSpacing (0028,0030): mm between rows, then between columns, so y before x."""
    key = "dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing"
    y, x = properties.get(f"{key}[0]"), properties.get(f"{key}[1]")
    return [_pair(DICOM, "dicom.PixelSpacing[1]/[0]", (x, y), um=_MM_TO_UM)] if x and y else []


def _png(properties: Mapping[str, str]) -> list[Reading]:
    """Read pHYs with unit 1: pixels a meter."""
    x, y = _both(properties, "png.pHYs-x", "png.pHYs-y")
    if not x:
        return []
    per_axis = _axes(_divided(UM_PER["m"], number(x)), _divided(UM_PER["m"], number(y)))
    return [Reading(PNG, f"png.pHYs = {_raw(x, y)} per meter", per_axis)]


def _spacing(source: str, name: str, raw: str) -> Reading:
    """Two quoted numbers in mm, row spacing (y) first."""
    parts = raw.replace('"', " ").split()
    if len(parts) != AXES:
        return Reading(source, f"{name} = {raw!r}", None)
    return _pair(source, name, (parts[1], parts[0]), um=_MM_TO_UM)


def _pair(source: str, name: str, raw: tuple[str, str], *, um: float = 1.0) -> Reading:
    x, y = (None if (value := number(text)) is None else value * um for text in raw)
    return Reading(source, f"{name} = {_raw(*raw)}", _axes(x, y))


def _both(properties: Mapping[str, str], x_key: str, y_key: str) -> tuple[str, str]:
    """Return both entries; one that is absent equals the other."""
    x, y = properties.get(x_key) or "", properties.get(y_key) or ""
    return x or y, y or x


def _axes(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _square(value: float | None) -> tuple[float, float] | None:
    return _axes(value, value)


def _divided(value: float | None, by: float | None) -> float | None:
    """Return the quotient, or None where a number is absent or not positive."""
    if value is None or by is None or value <= 0 or by <= 0:
        return None
    return value / by


def _raw(x: str, y: str) -> str:
    return repr(x) if x == y else f"{x!r}/{y!r}"
