"""Decoding one piece of a TIFF page: what ends too early or is no image raises, never shows as white."""

from collections.abc import Callable

import numpy as np
import simplejpeg
from jaxtyping import Shaped

from wsi_kd.slides.tiff_pages import ENDS_BY_MARKER, StoredPage

Samples = Shaped[np.ndarray, "height width samples"]
ReadBytes = Callable[[int, int], bytes]
"""Offset and length in bytes -> the bytes, all of them or an error."""

_END_MARKER = b"\xff\xd9"
"""Last two bytes of a JPEG and of a JPEG 2000 codestream."""


def decode_piece(stored: StoredPage, read: ReadBytes, *, column: int, row: int) -> Samples | None:
    """Decode one piece of a page; None where a tile was never stored (byte count 0).

    Raises:
        ValueError: (or what the decoder raises) for damaged bytes.
    """
    planes = [
        _decode_plane(stored, read, plane=plane, column=column, row=row) for plane in range(stored.planes)
    ]
    present = [plane for plane in planes if plane is not None]
    if not present:
        return None
    if len(present) < len(planes):
        raise ValueError("some of its color planes are not stored")
    samples = np.concatenate(present, axis=2) if len(present) > 1 else present[0]
    grid = stored.grid
    height = min(grid.segment_height_px, grid.height_px - row * grid.segment_height_px)
    width = min(grid.segment_width_px, grid.width_px - column * grid.segment_width_px)
    if samples.shape[0] < height or samples.shape[1] < width:
        raise ValueError(f"{samples.shape[1]}x{samples.shape[0]} px where {width}x{height} belong")
    return samples


def _decode_plane(
    stored: StoredPage, read: ReadBytes, *, plane: int, column: int, row: int
) -> Samples | None:
    page, grid = stored.page, stored.grid
    if stored.raw:
        return _raw_rows(stored, read, plane=plane, row=row)
    columns = -(-grid.width_px // grid.segment_width_px)
    rows = -(-grid.height_px // grid.segment_height_px)
    index = (plane * rows + row) * columns + column
    if index >= len(page.dataoffsets):
        raise ValueError(f"piece {index} is not in the file's list of {len(page.dataoffsets)}")
    size = page.databytecounts[index]
    if size == 0:
        return None
    data = read(page.dataoffsets[index], size)
    if page.compression in ENDS_BY_MARKER and not data.rstrip(b"\0").endswith(_END_MARKER):
        raise ValueError("its image data end too early")
    if stored.streams is not None:
        # libjpeg-turbo refuses here what it would else only warn of: data that end early.
        space = "GRAY" if stored.streams.colors == "gray" else "RGB"
        pixels: Samples = simplejpeg.decode_jpeg(stored.streams.complete(data), colorspace=space)
        return pixels
    decoded = page.decode(data, index, jpegtables=stored.tables)[0]
    if decoded is None:
        raise ValueError("its image data are empty")
    one_depth: Samples = decoded[0]
    return one_depth


def _raw_rows(stored: StoredPage, read: ReadBytes, *, plane: int, row: int) -> Samples:
    """Read rows of an uncompressed page from the strips they lie in."""
    page, grid = stored.page, stored.grid
    strip_rows = int(min(page.rowsperstrip, grid.height_px))
    strips = -(-grid.height_px // strip_rows)
    first = row * grid.segment_height_px
    last = min(first + grid.segment_height_px, grid.height_px)
    data = b""
    for strip in range(first // strip_rows, -(-last // strip_rows)):
        start, end = max(first - strip * strip_rows, 0), min(last - strip * strip_rows, strip_rows)
        offset = page.dataoffsets[plane * strips + strip]
        data += read(offset + start * stored.row_bytes, (end - start) * stored.row_bytes)
    stored_as = stored.dtype.newbyteorder(page.parent.byteorder)
    return np.frombuffer(data, stored_as).reshape(last - first, grid.width_px, -1).astype(stored.dtype)
