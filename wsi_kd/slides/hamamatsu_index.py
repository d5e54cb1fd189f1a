"""The index of a Hamamatsu slide of several files (VMS, VMU): which it names, and whether they are there."""

import os
from collections.abc import Mapping
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path
from typing import Final

from wsi_kd.slides.declared import refuse_endless_vms, refuse_vast_raw
from wsi_kd.slides.protocol import unreadable

MAX_NAMED: Final = 4
"""Missing files that are listed by name."""
HEAD_BYTES: Final = 132
"""First bytes of an index, in which its group stands."""
_VMS, _VMU = "Virtual Microscope Specimen", "Uncompressed Virtual Microscope Specimen"
_IMAGE, _MAP, _MACRO = "ImageFile", "MapFile", "MacroImage"
_BITS, _KNOWN_BITS = "BitsPerPixel", "36"
_ORDER, _KNOWN_ORDER = "PixelOrder", "RGB"
_ROW_STARTS: Final = "OptimisationFile"
"""The one file that OpenSlide can do without: it then searches for where rows begin."""
_LAYER_COLUMN_ROW: Final = 3
"""Numbers behind the key of an image where the index names focal planes."""
_MAX_INDEX_BYTES: Final = 1 << 16
"""OpenSlide reads no longer index."""


def hamamatsu_parts(path: Path) -> dict[str, Path]:
    """Return the files that an index of VMS or VMU names, by its keys; of any other file nothing.

    Images of further focal planes are not among them: OpenSlide reads the first one alone.

    Raises:
        OSError: the file cannot be read.
    """
    return _parts(path, _keys_of(path)[1])


def refuse_incomplete_index(path: Path) -> None:
    """Refuse a VMS or VMU slide whose index names files that are not there, or declares what cannot be.

    What is missing is named by the index's key where its file is not called like the slide: it may be called
    like a patient. Any other file is let through.

    Raises:
        SlideProblem: unreadable, listing what is missing.
        OSError: the file cannot be read.
    """
    group, keys = _keys_of(path)
    parts = _parts(path, keys)
    missing = [
        _told(key, part, path) for key, part in parts.items() if key != _ROW_STARTS and not part.is_file()
    ]
    if missing:
        raise unreadable(
            f"its index names {len(missing)} files that are not there ({', '.join(missing[:MAX_NAMED])}); "
            f"copy all files of the slide beside {path.name}"
        )
    if group == _VMS:
        with suppress(KeyError, ValueError):  # OpenSlide tells
            columns, rows = (int(keys[f"NoJpeg{name}"]) for name in ("Columns", "Rows"))
            refuse_endless_vms(columns, rows, images=sum(key.startswith(_IMAGE) for key in parts))
    elif group == _VMU:
        _refuse_other_colors(keys)
        for key, part in parts.items():
            if key.startswith((_IMAGE, _MAP)):
                refuse_vast_raw(part, name=_told(key, part, path))


def without_part_names(text: str, path: Path) -> str:
    """Return what a library says of a slide without the names of VMS or VMU files: they may name a patient.

    The index's keys stand for them; names that begin like the slide's own stay.
    """
    try:
        parts = hamamatsu_parts(path)
    except OSError:
        return text
    for key, part in parts.items():
        told = _told(key, part, path)
        if told == key:
            text = text.replace(str(part), key).replace(part.name, key)
    return text


def _refuse_other_colors(keys: Mapping[str, str]) -> None:
    """Refuse a VMU index that declares other colors than OpenSlide reads: version 4.0.1 crashes over it."""
    bits, order = keys.get(_BITS, ""), keys.get(_ORDER, "")
    if (bits, order) != (_KNOWN_BITS, _KNOWN_ORDER):
        raise unreadable(
            f"its index declares {bits or 'no'} bits a pixel and the colors {order or 'not at all'}; "
            f"OpenSlide reads {_KNOWN_BITS} bits in the order {_KNOWN_ORDER}: export the slide so"
        )


def _told(key: str, part: Path, path: Path) -> str:
    return part.name if part.name.startswith(path.stem) else key


def _keys_of(path: Path) -> tuple[str, Mapping[str, str]]:
    """Return the group of an index and its keys; of any other file nothing."""
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        if not any(f"[{group}]".encode() in head for group in (_VMS, _VMU)):
            return "", {}
        text = os.fsdecode(head + handle.read(_MAX_INDEX_BYTES))
    parser = ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except Error:
        return "", {}
    group = next((name for name in (_VMS, _VMU) if name in parser), "")
    return group, dict(parser[group]) if group else {}


def _parts(path: Path, keys: Mapping[str, str]) -> dict[str, Path]:
    return {key: path.parent / name for key, name in keys.items() if name and _names_a_file(key)}


def _names_a_file(key: str) -> bool:
    if not key.startswith(_IMAGE):
        return key in {_MAP, _MACRO, _ROW_STARTS}
    numbers = key.partition("(")[2].rstrip(")").split(",")
    has_layer = len(numbers) == _LAYER_COLUMN_ROW
    return not has_layer or numbers[0].strip() == "0"
