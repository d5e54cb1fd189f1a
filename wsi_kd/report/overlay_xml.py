"""OME-XML of an overlay: one RGB image, its physical size, and what its colors mean."""

import re
import uuid
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.inference.mappings import MappedTiles

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
ANNOTATION = "wsi-kd/heatmap"
OVERLAY_NAMESPACE = uuid.UUID("4b8b8a3a-0b3e-5d0c-9d7e-5c2a1a7d6f11")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def overlay_xml(slide_id: str, mapped: MappedTiles, size_px: tuple[int, int], *, um_per_px: float) -> bytes:
    """Describe the overlay's image (UTF-8).

    Args:
        slide_id: in the image's name, with the mapping's.
        mapped: name, unit and ends of the colors, kept as a MapAnnotation.
        size_px: width and height of the finest level.
        um_per_px: of the finest level.
    """
    seed = f"{_clean(slide_id)}:{_clean(mapped.key)}:{size_px}:{um_per_px!r}"
    identity = uuid.uuid5(OVERLAY_NAMESPACE, seed)
    root = Element("OME", {"xmlns": NAMESPACE, "UUID": f"urn:uuid:{identity}", "Creator": "wsi-kd"})
    image = SubElement(root, "Image", {"ID": "Image:0", "Name": _clean(f"{slide_id}: {mapped.name}")})
    SubElement(image, "Description").text = _clean(f"{mapped.meaning} {RESEARCH_ONLY}")
    width, height = size_px
    size = {"SizeX": str(width), "SizeY": str(height), "SizeZ": "1", "SizeC": "3", "SizeT": "1"}
    scale = {f"PhysicalSize{axis}": repr(float(um_per_px)) for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "\N{MICRO SIGN}m" for axis in "XY"}
    fixed = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": "uint8", "Interleaved": "true"}
    pixels = SubElement(image, "Pixels", {**fixed, **size, **scale, **units})
    SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": "3"})
    SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    SubElement(image, "AnnotationRef", {"ID": "Annotation:0"})
    notes = SubElement(root, "StructuredAnnotations")
    note = SubElement(notes, "MapAnnotation", {"ID": "Annotation:0", "Namespace": ANNOTATION})
    value = SubElement(note, "Value")
    told = {"mapping": mapped.key, "name": mapped.name, "unit": mapped.unit}
    for key, text in {**told, "vmin": repr(mapped.vmin), "vmax": repr(mapped.vmax)}.items():
        SubElement(value, "M", {"K": key}).text = _clean(text)
    text = '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")
    return text.encode()


def _clean(text: str) -> str:
    """Leave out what XML cannot hold: control characters and halves of UTF-16 pairs."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
