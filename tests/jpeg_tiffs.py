"""Tiled JPEG TIFFs as scanners write them: tables apart or not, RGB or YCbCr, with or without markers."""

from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import imagecodecs
import numpy as np
import tifffile
from synthetic import paint_slide

Colors = Literal["rgb", "ycbcr"]
DHT, DQT, SOF, SOS, APP0, APP14 = 0xC4, 0xDB, 0xC0, 0xDA, 0xE0, 0xEE
JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


class Stream(NamedTuple):
    """A JPEG taken apart: its header segments (marker, whole bytes) and the rest from the first scan on."""

    segments: list[tuple[int, bytes]]
    scan: bytes

    def without(self, *markers: int) -> "Stream":
        return Stream([part for part in self.segments if part[0] not in markers], self.scan)

    def joined(self) -> bytes:
        return b"\xff\xd8" + b"".join(part for _, part in self.segments) + self.scan


def taken_apart(stream: bytes) -> Stream:
    at, segments = 2, []
    while stream[at + 1] != SOS:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        segments.append((stream[at + 1], stream[at:end]))
        at = end
    return Stream(segments, stream[at:])


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def encoded(tile: np.ndarray, colors: Colors, *, subsampling: str = "444", quality: int = 85) -> Stream:
    """One tile whose components are `colors`, without a marker that says so; component ids 0, 1, 2."""
    out = {"rgb": "RGB", "ycbcr": "YCBCR"}[colors]
    stream = imagecodecs.jpeg8_encode(
        tile, level=quality, colorspace="RGB", outcolorspace=out, subsampling=subsampling
    )
    plain = taken_apart(bytes(stream)).without(APP0, APP14)
    segments = [
        (marker, _with_ids(part, 10, 3) if marker == SOF else part) for marker, part in plain.segments
    ]
    return Stream(segments, _with_ids(plain.scan, 5, 2))


def tables_of(stream: Stream) -> bytes:
    """What a TIFF stores once for all its tiles."""
    kept = [part for part in stream.segments if part[0] in {DHT, DQT}]
    return Stream(kept, b"\xff\xd9").joined()


def write_tiff(
    path: Path,
    pixels: np.ndarray,
    *,
    tile_px: int = 64,
    colors: Colors = "ycbcr",
    subsampling: str = "444",
    tables: bool = False,
    marker: bytes = b"",
    before_end: bytes = b"",
    aperio: bool = True,
) -> Path:
    """Write one level; `marker` goes to each head, whatever it claims, `before_end` to each tail."""
    tiles = [encoded(tile, colors, subsampling=subsampling) for tile in _tiles(pixels, tile_px)]
    tiles = [tile._replace(scan=tile.scan[:-2] + before_end + tile.scan[-2:]) for tile in tiles]
    height, width = pixels.shape[:2]
    size = f"{width}x{height}"
    content = [
        Stream([(0, marker), *(tile.without(DHT, DQT) if tables else tile).segments], tile.scan).joined()
        for tile in tiles
    ]
    factor = {"444": (1, 1), "420": (2, 2)}[subsampling]
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter(content),
            shape=pixels.shape,
            dtype=np.uint8,
            tile=(tile_px, tile_px),
            compression="jpeg",
            photometric="rgb" if colors == "rgb" else "ycbcr",
            subsampling=factor if colors == "ycbcr" else None,
            jpegtables=tables_of(tiles[0]) if tables else None,
            description=f"Aperio Image Library v12.0.15 \r\n{size} [0,0 {size}] JPEG|MPP = 0.5"
            if aperio
            else None,
            metadata=None,
            software=False,
        )
    return path


def write_philips(path: Path, pixels: np.ndarray, *, tile_px: int = 64) -> Path:
    """Write two levels as Philips does: pages padded to whole tiles, sizes told by spacings in XML."""
    with tifffile.TiffWriter(path) as writer:
        for level, image in enumerate((pixels, halved(pixels))):
            beyond = [(0, -edge % tile_px) for edge in image.shape[:2]]
            padded = np.pad(image, (*beyond, (0, 0)), mode="edge")
            writer.write(
                (encoded(tile, "ycbcr").joined() for tile in _tiles(padded, tile_px)),
                shape=padded.shape,
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(1, 1),
                description=_philips_xml(levels=2) if level == 0 else None,
                subfiletype=int(level > 0),
                software="Philips DP v1.0",
                metadata=None,
            )
    return path


def _philips_xml(*, levels: int) -> str:
    def attribute(name: str, value: object) -> str:
        return f'<Attribute Name="{name}" Group="0x0000" Element="0x0000" PMSVR="IString">{value}</Attribute>'

    def spacing(level: int) -> str:
        value = f"&quot;{0.0005 * 2**level}&quot;"
        return attribute("DICOM_PIXEL_SPACING", f"{value} {value}")

    def objects(kind: str, *contents: str) -> str:
        parts = (f'<DataObject ObjectType="{kind}">{content}</DataObject>' for content in contents)
        return f"<Array>{''.join(parts)}</Array>"

    numbers = [attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", level) for level in range(levels)]
    sizes = [spacing(level) + number for level, number in enumerate(numbers)]
    sequence = objects("PixelDataRepresentation", *sizes)
    scan = (
        attribute("PIM_DP_IMAGE_TYPE", "WSI")
        + spacing(0)
        + attribute("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", sequence)
    )
    content = attribute("DICOM_MANUFACTURER", "PHILIPS")
    content += attribute("PIM_DP_SCANNED_IMAGES", objects("DPScannedImage", scan))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><DataObject ObjectType="DPUfsImport">{content}</DataObject>'
    )


def tissue(width: int, height: int, *, seed: int = 0) -> np.ndarray:
    """Stained pixels of any size up to 1024x768."""
    return np.ascontiguousarray(paint_slide(seed=seed, with_tumor=True)[:height, :width])


def rewrite_tile(path: Path, index: int, change) -> None:
    """Replace a stored tile's bytes by `change(bytes)`, of equal length."""
    with tifffile.TiffFile(path) as tiff:
        offset, size = tiff.pages[0].dataoffsets[index], tiff.pages[0].databytecounts[index]
    with path.open("r+b") as handle:
        handle.seek(offset)
        content = change(handle.read(size))
        assert len(content) == size
        handle.seek(offset)
        handle.write(content)


def halved(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def _with_ids(part: bytes, first: int, step: int) -> bytes:
    changed = bytearray(part)
    for component in range(3):
        changed[first + component * step] = component
    return bytes(changed)


def _tiles(pixels: np.ndarray, edge: int):
    height, width = pixels.shape[:2]
    for y in range(0, height, edge):
        for x in range(0, width, edge):
            tile = pixels[y : y + edge, x : x + edge]
            beyond = ((0, edge - tile.shape[0]), (0, edge - tile.shape[1]), (0, 0))
            yield np.pad(tile, beyond, mode="edge")
