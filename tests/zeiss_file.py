"""A small Zeiss CZI slide: segments with overlapping tiles of two scenes, uncompressed or Zstandard.

Segments as OpenSlide's documentation and reader tell them (https://openslide.org/formats/zeiss/).
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

import imagecodecs
import numpy as np
from hamamatsu_files import shrunk
from planted_slides import pattern

NONE, JPEG_XR, ZSTD0, ZSTD1 = 0, 4, 5, 6
BGR24, BGR48 = 3, 4
LABEL_NAME: Final = b"Thumbnail"
_SUBBLOCK_HEADER_BYTES: Final = 288
_FILE_HEADER_BYTES: Final = 32 + 80


class Block(NamedTuple):
    """One stored tile: its place in level-0 pixels, its shrinkage, its scene, its place in the stack."""

    x: int
    y: int
    pixels: np.ndarray
    factor: int
    scene: int
    order: int


def write_zeiss(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float = 0.5,
    patient: str = "",
    compression: int = ZSTD1,
    depth: int = BGR24,
) -> Path:
    """Write the left and the right half of `pixels` (768, 1024, 3) as scenes, in levels of 1, 2 and 4.

    Places are counted from the middle of the slide, so many are negative; tiles of level 0 overlap by 40 px.
    """
    blocks = _blocks(pixels)
    content = bytearray(_FILE_HEADER_BYTES)
    entries = []
    for block in blocks:
        entry = _entry(block, len(content), compression=compression, depth=depth)
        entries.append(entry)
        content += _subblock(block, entry, compression=compression, depth=depth)
    directory_at = len(content)
    body = struct.pack("<i", len(entries)) + bytes(124) + b"".join(entries)
    content += _segment(b"ZISRAWDIRECTORY", body)
    metadata_at = len(content)
    xml = _xml(pixels.shape[1], pixels.shape[0], mpp=mpp, patient=patient).encode()
    content += _segment(b"ZISRAWMETADATA", struct.pack("<2i", len(xml), 0) + bytes(248) + xml)
    attachment_at = len(content)
    picture = imagecodecs.jpeg8_encode(pattern(320, 120))
    attached = struct.pack("<2s10xqi16s8s80s", b"A1", attachment_at, 0, bytes(16), b"JPG", LABEL_NAME)
    body = struct.pack("<i12x", len(picture)) + attached + bytes(112) + picture
    content += _segment(b"ZISRAWATTACH", body)
    attachments_at = len(content)
    content += _segment(b"ZISRAWATTDIR", struct.pack("<i252x", 1) + attached)
    places = struct.pack(
        "<4i16s16siqqiq", 1, 0, 0, 0, bytes(16), bytes(16), 0, directory_at, metadata_at, 0, attachments_at
    )
    header = _segment(b"ZISRAWFILE", places.ljust(80, b"\0"))
    content[:_FILE_HEADER_BYTES] = header[:_FILE_HEADER_BYTES]
    path.write_bytes(content)
    return path


def _blocks(pixels: np.ndarray) -> list[Block]:
    height, width = pixels.shape[:2]
    found = []
    for factor in (1, 2, 4):
        image = shrunk(pixels, factor) if factor > 1 else pixels
        for scene in (0, 1):
            edge, step = (296, 256) if factor == 1 else (256, 256)
            left, right = scene * width // 2 // factor, (scene + 1) * width // 2 // factor
            for top in range(0, height // factor, step):
                for start in range(left, right, step):
                    part = image[top : top + edge, start : min(start + edge, right)]
                    place = (start * factor - width // 2, top * factor - height // 2)
                    found.append(Block(*place, part, factor, scene, len(found)))
    return found


def _entry(block: Block, place: int, *, compression: int, depth: int) -> bytes:
    height, width = block.pixels.shape[:2]

    def dimension(name: bytes, start: int, size: int, *, stored: int) -> bytes:
        return struct.pack("<4siifi", name, start, size, float(start), stored)

    dimensions = (
        dimension(b"X", block.x, width * block.factor, stored=width),
        dimension(b"Y", block.y, height * block.factor, stored=height),
        dimension(b"C", 0, 1, stored=1),
        dimension(b"M", block.order, 1, stored=1),
        dimension(b"S", block.scene, 1, stored=1),
    )
    kind = 0 if block.factor == 1 else 2
    head = struct.pack("<2siqiib5xi", b"DV", depth, place, 0, compression, kind, len(dimensions))
    return head + b"".join(dimensions)


def _subblock(block: Block, entry: bytes, *, compression: int, depth: int) -> bytes:
    bgr = np.ascontiguousarray(block.pixels[..., ::-1])
    if depth == BGR48:
        bgr = bgr.astype("<u2") * 257
    data = bgr.tobytes()
    if compression in {ZSTD0, ZSTD1}:
        packed = compression == ZSTD1 and depth == BGR48
        if packed:  # low bytes, then high ones
            data = np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()
        head = bytes([3, 1, packed]) if compression == ZSTD1 else b""
        data = head + imagecodecs.zstd_encode(data)
    head = struct.pack("<iiq", 0, 0, len(data)) + entry
    return _segment(b"ZISRAWSUBBLOCK", head.ljust(_SUBBLOCK_HEADER_BYTES - 32, b"\0") + data)


def _segment(name: bytes, body: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(body), len(body)) + body


def _xml(width: int, height: int, *, mpp: float, patient: str) -> str:
    meters = mpp / 1e6
    barcode = f'<Barcodes><Barcode Id="1"><Content>{patient}</Content></Barcode></Barcodes>'
    distances = "".join(f'<Distance Id="{axis}"><Value>{meters!r}</Value></Distance>' for axis in "XY")
    return f"""<?xml version="1.0"?><ImageDocument><Metadata>
<AttachmentInfos><AttachmentInfo Id="1"><Label>{barcode}</Label></AttachmentInfo></AttachmentInfos>
<Information>
<User><DisplayName>{patient}</DisplayName></User>
<Document><Name>{patient}</Name><CreationDate>1945-02-01</CreationDate></Document>
<Image><SizeX>{width}</SizeX><SizeY>{height}</SizeY><SizeS>2</SizeS>
<ObjectiveSettings><ObjectiveRef Id="Objective:1"/></ObjectiveSettings></Image>
<Instrument><Objectives><Objective Id="Objective:1"><NominalMagnification>20</NominalMagnification>
</Objective></Objectives></Instrument>
</Information>
<Scaling><Items>{distances}</Items></Scaling>
</Metadata></ImageDocument>"""
