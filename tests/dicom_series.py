"""A small DICOM whole-slide series: one file a level, one of the label; explicit VR, JPEG or raw frames.

Elements as DICOM PS3.3 A.32.8 (VL Whole Slide Microscopy Image) and PS3.5 (encoding) define them, no more of
them than OpenSlide asks for.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import imagecodecs
import numpy as np
from hamamatsu_files import shrunk
from planted_slides import pattern

Syntax = Literal["raw", "jpeg"]
TILE_PX: Final = 128
ROOT: Final = "2.25.4711"
WHOLE_SLIDE: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
SYNTAXES: Final = {"raw": "1.2.840.10008.1.2.1", "jpeg": "1.2.840.10008.1.2.4.50"}
_LONG: Final = {"OB", "OW", "SQ", "UT"}
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF


def write_series(
    folder: Path,
    pixels: np.ndarray,
    *,
    mpp: float = 0.5,
    patient: str = "",
    series: int = 1,
    syntax: Syntax = "jpeg",
    factors: Sequence[int] = (1, 2, 4),
) -> list[Path]:
    """Write `pixels` in one file a level, the finest first, and a label file; return their paths."""
    paths = []
    for factor in factors:
        image = shrunk(pixels, factor) if factor > 1 else pixels
        path = folder / f"series{series}_level{factor}.dcm"
        kind = "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if factor == 1 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED"
        told = _dataset(image, kind=kind, mpp=mpp * factor, patient=patient, number=(series, factor))
        path.write_bytes(_file(told, _frames(image), syntax=syntax, number=(series, factor)))
        paths.append(path)
    image, label = pattern(TILE_PX, TILE_PX), folder / f"series{series}_label.dcm"
    number = (series, 99)
    told = _dataset(image, kind="ORIGINAL\\PRIMARY\\LABEL\\NONE", mpp=50.0, patient=patient, number=number)
    label.write_bytes(_file(told, _frames(image), syntax=syntax, number=number))
    return [*paths, label]


def _frames(pixels: np.ndarray) -> list[np.ndarray]:
    height, width = pixels.shape[:2]
    whole = np.pad(pixels, ((0, -height % TILE_PX), (0, -width % TILE_PX), (0, 0)), mode="edge")
    return [
        np.ascontiguousarray(whole[top : top + TILE_PX, left : left + TILE_PX])
        for top in range(0, height, TILE_PX)
        for left in range(0, width, TILE_PX)
    ]


def _dataset(
    image: np.ndarray, *, kind: str, mpp: float, patient: str, number: tuple[int, int]
) -> list[tuple[tuple[int, int], bytes]]:
    height, width = image.shape[:2]
    frames = -(-height // TILE_PX) * -(-width // TILE_PX)
    spacing = _item(_text((0x0028, 0x0030), "DS", f"{mpp / 1000:.10g}\\{mpp / 1000:.10g}"))
    measures = _item(_element((0x0028, 0x9110), "SQ", spacing))
    optics = _item(_text((0x0048, 0x0112), "DS", "20"))
    series, instance = number
    shorts = {
        (0x0028, 0x0002): 3,
        (0x0028, 0x0006): 0,
        (0x0028, 0x0010): TILE_PX,
        (0x0028, 0x0011): TILE_PX,
        (0x0028, 0x0100): 8,
        (0x0028, 0x0101): 8,
        (0x0028, 0x0102): 7,
        (0x0028, 0x0103): 0,
    }
    found = {
        (0x0008, 0x0008): _text((0x0008, 0x0008), "CS", kind),
        (0x0008, 0x0016): _text((0x0008, 0x0016), "UI", WHOLE_SLIDE),
        (0x0008, 0x0018): _text((0x0008, 0x0018), "UI", f"{ROOT}.{series}.{instance}"),
        (0x0008, 0x0020): _text((0x0008, 0x0020), "DA", "19450201"),
        (0x0008, 0x0060): _text((0x0008, 0x0060), "CS", "SM"),
        (0x0008, 0x0070): _text((0x0008, 0x0070), "LO", "Drawn"),
        (0x0010, 0x0010): _text((0x0010, 0x0010), "PN", patient),
        (0x0010, 0x0020): _text((0x0010, 0x0020), "LO", patient),
        (0x0020, 0x000D): _text((0x0020, 0x000D), "UI", f"{ROOT}.9"),
        (0x0020, 0x000E): _text((0x0020, 0x000E), "UI", f"{ROOT}.{series}"),
        (0x0020, 0x0013): _text((0x0020, 0x0013), "IS", str(instance)),
        (0x0020, 0x9311): _text((0x0020, 0x9311), "CS", "TILED_FULL"),
        (0x0028, 0x0004): _text((0x0028, 0x0004), "CS", "RGB"),
        (0x0028, 0x0008): _text((0x0028, 0x0008), "IS", str(frames)),
        (0x0040, 0x0512): _text((0x0040, 0x0512), "LO", patient),
        (0x0048, 0x0006): _element((0x0048, 0x0006), "UL", struct.pack("<I", width)),
        (0x0048, 0x0007): _element((0x0048, 0x0007), "UL", struct.pack("<I", height)),
        (0x0048, 0x0105): _element((0x0048, 0x0105), "SQ", optics),
        (0x0048, 0x0303): _element((0x0048, 0x0303), "UL", struct.pack("<I", 1)),
        (0x5200, 0x9229): _element((0x5200, 0x9229), "SQ", measures),
        **{tag: _element(tag, "US", struct.pack("<H", value)) for tag, value in shorts.items()},
    }
    return sorted(found.items())


def _file(
    dataset: list[tuple[tuple[int, int], bytes]],
    frames: list[np.ndarray],
    *,
    syntax: Syntax,
    number: tuple[int, int],
) -> bytes:
    series, instance = number
    meta = b"".join(
        [
            _element((0x0002, 0x0001), "OB", b"\0\1"),
            _text((0x0002, 0x0002), "UI", WHOLE_SLIDE),
            _text((0x0002, 0x0003), "UI", f"{ROOT}.{series}.{instance}"),
            _text((0x0002, 0x0010), "UI", SYNTAXES[syntax]),
            _text((0x0002, 0x0012), "UI", ROOT),
        ]
    )
    head = _element((0x0002, 0x0000), "UL", struct.pack("<I", len(meta))) + meta
    told = b"".join(element for _, element in dataset)
    return bytes(128) + b"DICM" + head + told + _pixel_data(frames, syntax)


def _pixel_data(frames: list[np.ndarray], syntax: Syntax) -> bytes:
    tag = (0x7FE0, 0x0010)
    if syntax == "raw":
        return _element(tag, "OB", b"".join(frame.tobytes() for frame in frames))
    items = []
    for frame in frames:
        stream = bytes(
            imagecodecs.jpeg8_encode(
                frame, level=95, colorspace="RGB", outcolorspace="RGB", subsampling="444"
            )
        )
        items.append(_item(stream + b"\0" * (len(stream) % 2)))
    starts = [sum(map(len, items[:index])) for index in range(len(items))]
    offsets = _item(struct.pack(f"<{len(starts)}I", *starts))
    end = struct.pack("<HHI", *_SEQUENCE_END, 0)
    return struct.pack("<HH2sHI", *tag, b"OB", 0, _UNKNOWN_LENGTH) + offsets + b"".join(items) + end


def _text(tag: tuple[int, int], kind: str, text: str) -> bytes:
    value = text.encode()
    return _element(tag, kind, value + (b"\0" if kind == "UI" else b" ") * (len(value) % 2))


def _element(tag: tuple[int, int], kind: str, value: bytes) -> bytes:
    if kind in _LONG:
        return struct.pack("<HH2sHI", *tag, kind.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", *tag, kind.encode(), len(value)) + value


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", *_ITEM, len(content)) + content
