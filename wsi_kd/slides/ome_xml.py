"""What OME-XML tells of the images in an OME-TIFF: planes, channels, physical size.

Source: https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from wsi_kd.slides.protocol import unreadable

SIZE_KEYS = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")
DEFAULT_UNIT = "\N{MICRO SIGN}m"
"""What a physical size without a unit means, by OME's schema."""
DYES = ("DAPI", "HOECHST", "FITC", "TRITC", "CY2", "CY3", "CY5", "CY7", "ALEXA", "AF488", "TEXASRED", "SYTOX")
"""Beginnings of the names that fluorescence channels carry."""


class OmeImage(NamedTuple):
    """One image of the file; its planes are pages of the TIFF."""

    name: str
    planes: tuple[int, ...]
    """Indices of the pages that hold channel 0, 1, ...; one page where the samples are interleaved."""
    channels: tuple[str, ...]
    focal_planes: int
    time_points: int
    is_fluorescence: bool
    """Some channel says so, by its contrast, its dye or its name."""
    significant_bits: int | None
    physical_size: dict[str, str]
    """PhysicalSizeX, PhysicalSizeY and their units as they are written."""


class _Pixels(NamedTuple):
    element: Element
    sizes: dict[str, int]
    samples: int
    """Samples of one page: 3 for interleaved RGB."""


def parse_ome(text: str, *, pages: int) -> list[OmeImage]:
    """Read the images that lie in this file, in the order they are written.

    Args:
        text: the OME-XML; entities are not expanded.
        pages: how many pages the TIFF has.

    Raises:
        SlideProblem: unreadable, for XML that is damaged, planes of a file that is not here, or a companion
            file that holds the metadata.
    """
    try:
        root = fromstring(text, forbid_dtd=True)
        if _children(root, "BinaryOnly"):
            raise unreadable("its OME-XML lies in another file; join the set by bfconvert")
        images = [
            _image(image, pixels, root_uuid=root.get("UUID"), pages=pages)
            for image in _children(root, "Image")
            for pixels in _children(image, "Pixels")
        ]
    except (ParseError, DefusedXmlException, ValueError, KeyError, ZeroDivisionError) as error:
        raise unreadable(
            f"its OME-XML is damaged ({type(error).__name__}: {error}); export it again"
        ) from None
    return images


def _image(image: Element, element: Element, *, root_uuid: str | None, pages: int) -> OmeImage:
    channels = _children(element, "Channel")
    samples = int(channels[0].get("SamplesPerPixel", "1")) if channels else 1
    sizes = {axis: int(element.attrib[f"Size{axis}"]) for axis in "XYZCT"}
    pixels = _Pixels(element, sizes, samples)
    significant = element.get("SignificantBits")
    return OmeImage(
        name=image.get("Name", ""),
        planes=_planes(pixels, root_uuid=root_uuid, pages=pages),
        channels=tuple(channel.get("Name") or f"channel {k}" for k, channel in enumerate(channels)),
        focal_planes=sizes["Z"],
        time_points=sizes["T"],
        is_fluorescence=any(_is_fluorescent(channel) for channel in channels),
        significant_bits=int(significant) if significant else None,
        physical_size=_physical_size(element),
    )


def _is_fluorescent(channel: Element) -> bool:
    name = (channel.get("Name") or "").upper().replace(" ", "").replace("-", "")
    return (
        "Fluor" in channel.attrib or channel.get("ContrastMethod") == "Fluorescence" or name.startswith(DYES)
    )


def _physical_size(element: Element) -> dict[str, str]:
    found = {key: value for key in SIZE_KEYS if (value := element.get(key))}
    for axis in "XY":
        if f"PhysicalSize{axis}" in found:
            found.setdefault(f"PhysicalSize{axis}Unit", DEFAULT_UNIT)
    return found


def _planes(pixels: _Pixels, *, root_uuid: str | None, pages: int) -> tuple[int, ...]:
    """Map channels of the first focal plane and time point to pages, as the TiffData elements tell."""
    order = pixels.element.attrib["DimensionOrder"][2:]
    lengths = {**pixels.sizes, "C": max(pixels.sizes["C"] // pixels.samples, 1)}
    absent = unreadable(f"its OME-XML names planes that the file's {pages} pages do not hold; copy it again")
    if lengths["C"] > pages:
        raise absent
    total = lengths["Z"] * lengths["C"] * lengths["T"]
    found = _tiff_data(pixels, order=order, lengths=lengths, root_uuid=root_uuid, pages=pages)
    page_of = dict(found) or {plane: plane for plane in range(min(total, pages))}
    stride = 1
    for axis in order[: order.index("C")]:
        stride *= lengths[axis]
    wanted = [page_of.get(channel * stride, pages) for channel in range(lengths["C"])]
    if any(not 0 <= page < pages for page in wanted):
        raise absent
    return tuple(wanted)


def _tiff_data(
    pixels: _Pixels, *, order: str, lengths: dict[str, int], root_uuid: str | None, pages: int
) -> Iterator[tuple[int, int]]:
    """Yield (plane, page) pairs, no more than pages; planes count along `order`, the first axis fastest."""
    total = lengths["Z"] * lengths["C"] * lengths["T"]
    for data in _children(pixels.element, "TiffData"):
        for other in _children(data, "UUID"):
            if root_uuid is not None and other.text != root_uuid:
                name = other.get("FileName", "another file")
                raise unreadable(f"its planes lie in several files ({name}); join them by bfconvert")
        first, stride = 0, 1
        for axis in order:
            index = int(data.get(f"First{axis}", "0"))
            first += (index // pixels.samples if axis == "C" else index) * stride
            stride *= lengths[axis]
        page = int(data.get("IFD", "0"))
        count = int(
            data.get("PlaneCount") or data.get("NumPlanes") or ("1" if "IFD" in data.attrib else total)
        )
        for step in range(min(count, total, pages)):
            yield first + step, page + step


def _children(element: Element, tag: str) -> list[Element]:
    """Return children by their name, whatever version of OME's namespace they carry."""
    return [child for child in element if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == tag]
