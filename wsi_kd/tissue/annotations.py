"""Annotation files of QuPath, ASAP, ImageScope, HALO and NDP.view, read into level 0 and written again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.frame import SlideFrame
from wsi_kd.tissue import asap, imagescope, ndpa
from wsi_kd.tissue.annotation_xml import parse_xml
from wsi_kd.tissue.asap import read_asap, write_asap
from wsi_kd.tissue.drawing import Annotation, Color, Drawing, collect
from wsi_kd.tissue.geojson import read_features, read_geojson, write_features
from wsi_kd.tissue.imagescope import is_halo, read_imagescope, write_imagescope
from wsi_kd.tissue.ndpa import read_ndpa, write_ndpa

READABLE = "GeoJSON (QuPath), or XML of ASAP, ImageScope, HALO or NDP.view (.ndpa)"
XML_SUFFIXES = frozenset({".xml", ".ndpa", ".annotations"})
_MARKS_AND_SPACES = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
"""What may stand before the first sign of a text file: byte order marks, spaces, UTF-16's zeros."""


class Written(NamedTuple):
    """An annotation file's text and what the format could not hold, in words."""

    text: str
    losses: tuple[str, ...]


def read_drawing(path: Path, *, frame: SlideFrame) -> Drawing:
    """Read an annotation file, its format told by its content.

    GeoJSON is in QuPath's frame (`frame.origin` is added), NDPA in nm on the glass; the others count from
    level 0's corner. Points and lines are passed over and counted, self-crossing rings repaired and named.

    Args:
        path: GeoJSON, or XML of ASAP, ImageScope, HALO or NDP.view.
        frame: the slide's geometry; `NOMINAL_FRAME` where only the shapes are looked at.

    Raises:
        BadInput: with the file and the element: not readable, foreign types, areas without extent, XML
            entities, an NDPA file for a slide whose place on the glass is unknown.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected {READABLE}") from None
    head = content[:256].lstrip(_MARKS_AND_SPACES)
    if head.startswith(b"<") or (not head and path.suffix.lower() in XML_SUFFIXES):
        return _read_xml(parse_xml(content, where=str(path)), frame=frame, where=str(path))
    items = read_features(read_geojson(path), origin=frame.origin, where=str(path))
    return collect(items, file_format="geojson")


def _read_xml(root: Element, *, frame: SlideFrame, where: str) -> Drawing:
    if root.tag == asap.ROOT:
        return collect(read_asap(root, where=where), file_format="asap")
    if root.tag == ndpa.ROOT:
        return collect(read_ndpa(root, frame=frame, where=where), file_format="ndpa")
    if root.tag == imagescope.ROOT:
        file_format = "halo" if is_halo(root) else "imagescope"
        return collect(read_imagescope(root, where=where), file_format=file_format)
    raise BadInput(
        f"{where}: root element <{root.tag}>; expected <{asap.ROOT}> (ASAP), <{imagescope.ROOT}> "
        f"(ImageScope, HALO) or <{ndpa.ROOT}> (NDPA)"
    )


def write_drawing(annotations: Sequence[Annotation], *, file_format: str, frame: SlideFrame) -> Written:
    """Return annotations as a file of one of `FORMATS`, and what that format cannot hold.

    Raises:
        BadInput: NDPA for a slide whose place on the glass is unknown.
    """
    return Written(FORMATS[file_format](annotations, frame), _losses(annotations, file_format))


FORMATS: Final[dict[str, Callable[[Sequence[Annotation], SlideFrame], str]]] = {
    "geojson": lambda annotations, frame: write_features(annotations, origin=frame.origin),
    "asap": lambda annotations, _: write_asap(annotations),
    "imagescope": lambda annotations, frame: write_imagescope(annotations, mpp=frame.mpp),
    "ndpa": lambda annotations, frame: write_ndpa(annotations, frame=frame),
}
"""Writers by format."""
PLAIN_HOLES: Final = frozenset({"geojson", "imagescope"})
"""Formats that mark holes as such."""


def _losses(annotations: Sequence[Annotation], file_format: str) -> tuple[str, ...]:
    if file_format == "geojson":
        return ()
    losses = []
    scattered = [item for item in annotations if len(shapely.get_parts(item.area)) > 1]
    if scattered:
        pieces = sum(len(shapely.get_parts(item.area)) for item in scattered)
        losses.append(f"{len(scattered)} areas of several pieces became {pieces} areas")
    holes = sum(len(part.interiors) for item in annotations for part in shapely.get_parts(item.area))
    if holes and file_format not in PLAIN_HOLES:
        losses.append(f"{holes} holes became areas of 'Exclusion of <class>', which wsi-kd cuts out again")
    if file_format == "imagescope":
        colors: dict[str, set[Color | None]] = {}
        for item in annotations:
            colors.setdefault(item.name, set()).add(item.color)
        varied = sum(len(found) > 1 for found in colors.values())
        if varied:
            losses.append(f"{varied} classes of several colors got one each")
        untold = sum(bool(item.title and not item.name) for item in annotations)
        if untold:
            losses.append(f"{untold} areas without a class lost their own names")
    return tuple(losses)
