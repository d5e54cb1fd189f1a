"""A tile's JPEG stream as a TIFF stores it, made into one that every decoder reads as the TIFF means it.

A TIFF may keep quantization and Huffman tables once for all tiles (tag 347, JPEGTables; TIFF Technical Note
2, 1995), and its photometric tag, not the stream's own markers, says whether the three components are RGB or
YCbCr: so do libtiff and OpenSlide. A bare decoder sees the stream alone and guesses the colors from its
markers (libjpeg's `default_decompress_parms`: JFIF means YCbCr, else Adobe's transform flag, else the
component ids). Where its guess is not what the TIFF says, an Adobe marker that says it is put in.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

StoredColors = Literal["rgb", "ycbcr", "gray"]
"""What the components of a tile are, by the TIFF's photometric tag; gray is one plane of a planar image."""

MARKER, DHT, DQT, SOS, APP0, APP14 = 0xFF, 0xC4, 0xDB, 0xDA, 0xE0, 0xEE
FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive Huffman frames; whatever else there is goes to OpenSlide."""
COMPONENTS: dict[StoredColors, int] = {"rgb": 3, "ycbcr": 3, "gray": 1}
BITS = 8
LENGTH_BYTES = 2
START = b"\xff\xd8"
_ADOBE = {
    "rgb": b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5),
    "ycbcr": b"\xff\xee\x00\x0eAdobe\x00\x64" + b"\0\0\0\0\1",
}


class _Segment(NamedTuple):
    """One marker segment and where it ends in the stream it was found in."""

    marker: int
    content: bytes
    end: int

    @property
    def whole(self) -> bytes:
        """The segment as it is written: marker, length, content."""
        return (
            bytes((MARKER, self.marker))
            + (len(self.content) + LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")
            + self.content
        )


class JpegStreams:
    """Completes the tiles of one TIFF page; equal headers, the usual case, are worked out once."""

    def __init__(self, tables: bytes, colors: StoredColors) -> None:
        """Take what a page says of all its tiles.

        Args:
            tables: the page's JPEGTables, empty where it has none.
            colors: what the components are.

        Raises:
            ValueError: tables that are no JPEG.
        """
        self._tables = (
            b"".join(part.whole for part in _segments(tables) if part.marker in {DHT, DQT}) if tables else b""
        )
        self.colors: StoredColors = colors
        self._known: tuple[bytes, bytes] | None = None

    def complete(self, stored: bytes) -> bytes:
        """Return a stream of its own for the bytes of one stored tile.

        Raises:
            ValueError: bytes that do not start as a JPEG of as many components as belong.
        """
        known = self._known
        if known is None or not stored.startswith(known[0]):
            known = self._known = self._headers(stored)
        head, told = known
        return told + stored[len(head) :] if told != head else stored

    def _headers(self, stored: bytes) -> tuple[bytes, bytes]:
        """Return the stored header up to its frame, and what shall stand in its place."""
        before: list[_Segment] = []
        for segment in _segments(stored):
            before.append(segment)
            if segment.marker in FRAMES:
                break
        else:
            raise ValueError("no frame that is known before its first scan")
        told = _told_colors(before, components=COMPONENTS[self.colors])
        kept = (
            before if told == self.colors else [part for part in before if part.marker not in {APP0, APP14}]
        )
        adobe = b"" if told == self.colors else _ADOBE[self.colors]
        return stored[: before[-1].end], START + self._tables + adobe + b"".join(part.whole for part in kept)


def _told_colors(segments: list[_Segment], *, components: int) -> StoredColors:
    """Return what libjpeg would take the components for."""
    frame = segments[-1].content
    ids = tuple(frame[6::3])
    if frame[0] != BITS or len(ids) != components:
        raise ValueError(f"{len(ids)} components of {frame[0]} bits; expected {components} of {BITS}")
    if components == COMPONENTS["gray"]:
        return "gray"
    if any(part.marker == APP0 and part.content.startswith(b"JFIF\0") for part in segments):
        return "ycbcr"
    adobe = [part.content for part in segments if part.marker == APP14 and part.content.startswith(b"Adobe")]
    if adobe:
        return "rgb" if adobe[-1][11:12] == b"\0" else "ycbcr"
    return "rgb" if ids == tuple(b"RGB") else "ycbcr"


def _segments(stream: bytes) -> Iterator[_Segment]:
    """Yield the marker segments up to the first scan or the end.

    Raises:
        ValueError: bytes that are no marker segments.
    """
    if not stream.startswith(START):
        raise ValueError(f"starts with {stream[:2].hex() or 'nothing'}, a JPEG with ffd8")
    at = len(START)
    while at + 4 <= len(stream):
        if stream[at] != MARKER:
            raise ValueError(f"no marker at byte {at} of its header")
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == SOS:
            return
        end = at + 2 + length
        if length < LENGTH_BYTES or end > len(stream):
            raise ValueError(f"a marker segment of {length} bytes at byte {at} of its header")
        yield _Segment(marker, stream[at + 4 : end], end)
        at = end
