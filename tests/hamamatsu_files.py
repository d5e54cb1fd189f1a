"""Slides of Hamamatsu's scanners: VMS, VMU and NDPI, small, with their truth.

Layouts as OpenSlide's documentation and reader tell them (https://openslide.org/formats/hamamatsu/): VMS is
an index, JPEG files with restart markers, a small map of the slide and a list of where rows begin; VMU an
index and raw files of 12-bit colors; NDPI a TIFF of one JPEG a level, whose offsets are 64 bits wide.
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from planted_slides import pattern

TILE_PX: Final = 64
"""Pixels of a row between two restart markers."""
MCU_PX: Final = 8
MAP_SHRINK: Final = 16
NDPI_MAP: Final = 65426
NGR_COLUMN_PX: Final = 64
"""Raw files hold one column of the image after the other."""
NGR_HEADER_BYTES: Final = 28
_NDPI_HEADER: Final = b"II*\0" + struct.pack("<Q", 12)
_SIZES: Final = {2: 1, 3: 2, 4: 4, 5: 8, 9: 4, 11: 4}
"""Bytes of a TIFF value by its type."""


class Entry(NamedTuple):
    """One entry of a TIFF directory."""

    tag: int
    kind: int
    values: bytes


def shrunk(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels."""
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (width // factor, height // factor), interpolation=cv2.INTER_AREA)


def write_vms(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` (768, 1024, 3) as two JPEG files beside each other, with map, macro and row offsets."""
    half = pixels.shape[1] // 2
    names = (f"{path.stem}.jpg", f"{path.stem}(1,0).jpg")
    offsets = []
    for name, part in zip(names, (pixels[:, :half], pixels[:, half:]), strict=True):
        stream = marked_jpeg(part)
        path.with_name(name).write_bytes(stream)
        offsets += _tile_starts(stream)[:: half // TILE_PX]
    rows = (struct.pack("<q", offset) + bytes(32) for offset in offsets[:-1])  # real ones lack the last
    path.with_name(f"{path.stem}.opt").write_bytes(b"".join(rows))
    path.with_name(f"{path.stem}_map2.jpg").write_bytes(marked_jpeg(shrunk(pixels, MAP_SHRINK)))
    path.with_name(f"{path.stem}_macro.jpg").write_bytes(marked_jpeg(pattern(320, 120)))
    keys = {
        "NoLayers": 1,
        "NoJpegColumns": 2,
        "NoJpegRows": 1,
        "ImageFile": names[0],
        "ImageFile(1,0)": names[1],
        "MapFile": f"{path.stem}_map2.jpg",
        "OptimisationFile": f"{path.stem}.opt",
        **_common(path, pixels, mpp=mpp, patient=patient),
    }
    return _write_index(path, "Virtual Microscope Specimen", keys)


def write_vmu(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` (768, 1024, 3) as one raw file, with a map and a macro image."""
    path.with_name(f"{path.stem}.ngr").write_bytes(_raw(pixels))
    path.with_name(f"{path.stem}_map.ngr").write_bytes(_raw(shrunk(pixels, 4)))
    path.with_name(f"{path.stem}_macro.jpg").write_bytes(marked_jpeg(pattern(320, 120)))
    keys = {
        "NoLayers": 1,
        "ImageFile": f"{path.stem}.ngr",
        "MapFile": f"{path.stem}_map.ngr",
        "MapScale": 4,
        "BitsPerPixel": 36,
        "PixelOrder": "RGB",
        "HardwareSerial": patient,
        **_common(path, pixels, mpp=mpp, patient=patient),
    }
    return _write_index(path, "Uncompressed Virtual Microscope Specimen", keys)


def write_ndpi(path: Path, pixels: np.ndarray, *, mpp: float = 0.5, patient: str = "") -> Path:
    """Write `pixels` (whole tiles of 64x8 px) in two levels, each one JPEG, and the macro image."""
    content = bytearray(_NDPI_HEADER)
    directories = [
        *((shrunk(pixels, factor) if factor > 1 else pixels, 20 / factor, mpp * factor) for factor in (1, 4)),
        (pattern(320, 120), -1.0, 50.0),
    ]
    for number, (image, lens, um) in enumerate(directories):
        stream = marked_jpeg(image)
        entries = _ndpi_entries(image, stream, lens=lens, um=um, patient=patient)
        _append_directory(content, entries, stream, is_last=number == len(directories) - 1)
    path.write_bytes(content)
    return path


def marked_jpeg(pixels: np.ndarray) -> bytes:
    """Encode with a restart marker after every 64 px of a row of 8 px, or after a row that is shorter."""
    flags = {
        cv2.IMWRITE_JPEG_QUALITY: 95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        cv2.IMWRITE_JPEG_RST_INTERVAL: min(TILE_PX, pixels.shape[1]) // MCU_PX,
    }
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    done, stream = cv2.imencode(".jpg", bgr, [part for flag in flags.items() for part in flag])
    assert done
    return stream.tobytes()


def _tile_starts(stream: bytes) -> list[int]:
    """Find where the tiles between restart markers begin."""
    scan = stream.index(b"\xff\xda")
    starts = [scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")]
    for place in range(starts[0], len(stream) - 1):
        if stream[place] == 0xFF and 0xD0 <= stream[place + 1] <= 0xD7:
            starts.append(place + 2)
    return starts


def _common(path: Path, pixels: np.ndarray, *, mpp: float, patient: str) -> dict[str, object]:
    height, width = pixels.shape[:2]
    return {
        "AuthCode": patient,
        "Reference": patient,
        "SourceLens": 20,
        "PhysicalWidth": round(width * mpp * 1000),
        "PhysicalHeight": round(height * mpp * 1000),
        "LayerSpacing": 0,
        "MacroImage": f"{path.stem}_macro.jpg",
        "PhysicalMacroWidth": 73000000,
        "PhysicalMacroHeight": "25000000;",
        "XOffsetFromSlideCentre": 2000,
        "YOffsetFromSlideCentre": -1000,
    }


def _write_index(path: Path, group: str, keys: dict[str, object]) -> Path:
    lines = [f"[{group}]", *(f"{key}={value}" for key, value in keys.items())]
    path.write_text("\r\n".join([*lines, ""]), encoding="utf-8", newline="")
    return path


def _raw(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape[:2]
    header = b"GN\0\0" + struct.pack("<3i", width, height, NGR_COLUMN_PX)
    header = header.ljust(24, b"\0") + struct.pack("<i", NGR_HEADER_BYTES)
    deep = pixels.astype("<u2") << 4  # 8 of 12 bits
    columns = (deep[:, left : left + NGR_COLUMN_PX].tobytes() for left in range(0, width, NGR_COLUMN_PX))
    return header + b"".join(columns)


def _ndpi_entries(image: np.ndarray, stream: bytes, *, lens: float, um: float, patient: str) -> list[Entry]:
    height, width = image.shape[:2]
    starts = _tile_starts(stream)
    per_cm = struct.pack("<2I", round(10_000_000 / um), 1000)
    known = [
        Entry(256, 4, struct.pack("<I", width)),
        Entry(257, 4, struct.pack("<I", height)),
        Entry(258, 3, struct.pack("<3H", 8, 8, 8)),
        Entry(259, 3, struct.pack("<H", 7)),
        Entry(262, 3, struct.pack("<H", 6)),
        Entry(271, 2, b"Hamamatsu\0"),
        Entry(272, 2, b"C9600-12\0"),
        Entry(273, 4, b""),  # where the JPEG lies: told by `_append_directory`
        Entry(277, 3, struct.pack("<H", 3)),
        Entry(278, 4, struct.pack("<I", height)),
        Entry(279, 4, struct.pack("<I", len(stream))),
        Entry(282, 5, per_cm),
        Entry(283, 5, per_cm),
        Entry(296, 3, struct.pack("<H", 3)),
        Entry(306, 2, b"1945:02:01 00:00:00\0"),
        Entry(65420, 4, struct.pack("<I", 1)),
        Entry(65421, 11, struct.pack("<f", lens)),
        Entry(65422, 9, struct.pack("<i", 2000)),
        Entry(65423, 9, struct.pack("<i", -1000)),
        Entry(65424, 9, struct.pack("<i", 0)),
        Entry(65426, 4, struct.pack(f"<{len(starts)}I", *starts)),
        Entry(65427, 2, f"{patient}\0".encode()),
        Entry(65449, 2, f"Barcode={patient}\r\nProduct=NanoZoomer\r\n\0".encode()),
    ]
    return known if lens > 0 else [entry for entry in known if entry.tag != NDPI_MAP]


def _append_directory(content: bytearray, entries: list[Entry], stream: bytes, *, is_last: bool) -> None:
    """Append a directory, its values and its JPEG; the upper halves of all values follow the directory."""
    start = len(content)
    behind = start + 2 + 12 * len(entries) + 8 + 4 * len(entries)
    records, values = bytearray(), bytearray()
    inline = [len(entry.values) <= 4 and entry.kind != 2 for entry in entries]
    jpeg_at = behind + sum(len(one.values) for one, fits in zip(entries, inline, strict=True) if not fits)
    for entry, fits in zip(entries, inline, strict=True):
        held = struct.pack("<I", jpeg_at) if entry.tag == 273 else entry.values
        if not fits:
            held = struct.pack("<I", behind + len(values))
            values += entry.values
        count = 1 if entry.tag == 273 else len(entry.values) // _SIZES[entry.kind]
        if entry.kind == 5:
            count = len(entry.values) // 8
        records += struct.pack("<HHI", entry.tag, entry.kind, count) + held.ljust(4, b"\0")
    following = 0 if is_last else jpeg_at + len(stream)
    content += struct.pack("<H", len(entries)) + records + struct.pack("<Q", following)
    content += bytes(4 * len(entries)) + values + stream
