"""Looks for planted words and patterns in all that a command left: bytes, encodings, pictures, HDF5."""

import base64
import binascii
import gzip
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import tifffile
from PIL import Image
from planted_slides import PLACES, is_patterned, word

STEM: Final = b"Canary"
"""Common to all planted words."""
PICTURES: Final = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
_EMBEDDED: Final = re.compile(rb"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)")


def _in_base64(text: bytes) -> Iterator[bytes]:
    """Yield how `text` looks inside base64, for each of three places it may begin at."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + text)
        first, last = -(-8 * before // 6), 8 * (before + len(text)) // 6
        yield encoded[first:last]


_PLAIN: Final = (
    STEM.lower(),
    *(STEM.decode().lower().encode(name) for name in ("utf-16-le", "utf-16-be", "utf-32-le")),
    binascii.hexlify(STEM),
)
_CASED: Final = tuple(_in_base64(STEM))


def is_leaking(content: bytes) -> bool:
    """Whether bytes hold a planted word, as it is or in UTF-16, UTF-32, hex or base64."""
    lower = content.lower()
    return any(needle in lower for needle in _PLAIN) or any(needle in content for needle in _CASED)


def places_in(content: bytes) -> list[str]:
    """Name the places whose words stand in bytes as UTF-8; `somewhere` where they are encoded."""
    lower = content.lower()
    return [place for place in PLACES if word(place).lower().encode() in lower] or ["somewhere"]


def leaks_below(folder: Path) -> dict[str, list[str]]:
    """Find what leaks in the files below a folder and in their names: file and places by name."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        contents = [name.encode()]
        if path.is_symlink():
            contents.append(os.fsencode(path.readlink()))
        elif path.is_file():
            contents += contents_of(path)
        told = [place for content in contents if is_leaking(content) for place in places_in(content)]
        told += ["pattern"] * any(is_patterned(pixels) for pixels in pictures_in(path, contents))
        if told:
            found[name] = sorted(set(told))
    return found


def contents_of(path: Path) -> list[bytes]:
    """A file's bytes and what they become when they are unpacked."""
    content = path.read_bytes()
    unpacked = [content]
    if content[:2] == b"\x1f\x8b":
        unpacked.append(gzip.decompress(content))
    if path.suffix == ".h5":
        unpacked.append("\n".join(_hdf5_texts(path)).encode())
    if path.suffix == ".png":
        with Image.open(path) as image:
            unpacked.append(repr(image.info).encode())
    return unpacked


def pictures_in(path: Path, contents: list[bytes]) -> Iterator[np.ndarray]:
    """Yield the pixels of a picture, or of those in a page's data addresses."""
    if path.suffix in {".tif", ".tiff"} and path.is_file():
        with tifffile.TiffFile(path) as tiff:
            yield from (page.asarray()[..., :3] for page in tiff.pages)
    elif path.suffix in PICTURES and path.is_file():
        yield pixels_of(path.read_bytes())
    for content in contents:
        yield from (pixels_of(base64.b64decode(found)) for found in _EMBEDDED.findall(content))


def pixels_of(encoded: bytes) -> np.ndarray:
    """Decode a PNG or JPEG."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def _hdf5_texts(path: Path) -> list[str]:
    """Every attribute and every dataset of text, below the user block too."""
    texts: list[str] = []

    def look(name: str, found: h5py.Group | h5py.Dataset) -> None:
        texts.append(name)
        texts.extend(f"{key} {value!r}" for key, value in found.attrs.items())
        if isinstance(found, h5py.Dataset) and found.dtype.kind in "OSU":
            texts.append(repr(found[()]))

    with h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)
    return texts
