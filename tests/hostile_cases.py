"""Hostile TIFF slides by name, and what is to be said of each."""

import struct
from typing import NamedTuple

from hostile_tiffs import (
    VAST,
    Recipe,
    at_first_directory,
    bomb,
    cut,
    every_tile_rewritten,
    jpeg_components,
    jpeg_size,
    noise,
    of_bytes,
    plain_tile,
    tile_rewritten,
    with_kind,
    with_random_scan,
    with_tags,
    without_tag,
)

DAMAGED = "damaged at x 0, y 0"
NO_MPP = "no resolution in its metadata"
NO_POSITIVE = "is no positive number"


class Case(NamedTuple):
    """A file, and what is said of it."""

    make: Recipe
    words: str
    """What the reason (exit code 0 or 1) or the error line (2) says, as a regular expression."""
    status: str = "unreadable"
    code: int = 1


def fine(make: Recipe) -> Case:
    """Odd, and read all the same."""
    return Case(make, "", "ok", 0)


def no_mpp(make: Recipe, words: str = NO_MPP) -> Case:
    """Without a resolution that can be believed."""
    return Case(make, words, "missing_mpp")


def refused(make: Recipe, words: str) -> Case:
    """Refused before anything is opened."""
    return Case(make, words, "", 2)


STRUCTURE = {
    "zero bytes": Case(of_bytes(b""), r"the file is empty \(0 bytes\)"),
    "magic alone": Case(of_bytes(b"II*\0"), "its TIFF directory is damaged"),
    "magic and no directory": Case(of_bytes(b"II*\0\0\0\0\0"), "a TIFF without images"),
    "cut at 10 %": Case(cut(0.1), f"{DAMAGED}.*the file ends 107 bytes before"),
    "cut at 50 %": Case(cut(0.5), f"{DAMAGED}.*the file ends 891 bytes before"),
    "cut at 99 %": Case(cut(0.99), f"{DAMAGED}.*the file ends 1006 bytes before"),
    "a directory that follows itself": fine(
        at_first_directory(lambda first, link: (link, struct.pack("<I", first)))
    ),
    "the first directory behind the end": Case(
        at_first_directory(lambda first, link: (4, struct.pack("<I", 2**31))), "a TIFF without images"
    ),
    "the next directory behind the end": fine(
        at_first_directory(lambda first, link: (link, struct.pack("<I", 2**32 - 8)))
    ),
    "65,535 entries": Case(
        at_first_directory(lambda first, link: (first, b"\xff\xff")), "suspicious number of tags 65535"
    ),
    "no entries": Case(
        at_first_directory(lambda first, link: (first, b"\0\0")), "its samples are of no known type"
    ),
    "BigTIFF by its magic alone": Case(
        at_first_directory(lambda first, link: (2, b"+\0")), "a TIFF without images"
    ),
    "the other byte order": Case(
        at_first_directory(lambda first, link: (0, b"MM\0*")), "a TIFF without images"
    ),
    "a tag of no known type": Case(with_kind("ImageWidth", 99), "a page without pixels"),
    "offsets that are text": Case(with_kind("TileOffsets", 2), "Invalid TIFF"),
    "no width": Case(without_tag("ImageWidth"), "Invalid TIFF"),
    "no offsets": Case(without_tag("TileOffsets"), "piece 0 is not in the file's list of 0"),
    "no compression": Case(without_tag("Compression"), "got 1926 bytes, expected 12288"),
}
SIZES = {
    "width 2^31-1": Case(with_tags({"ImageWidth": [VAST]}), "no level coarse enough"),
    "height 2^31-1": Case(with_tags({"ImageLength": [VAST]}), "no level coarse enough"),
    "both 2^31-1": Case(
        with_tags({"ImageWidth": [VAST], "ImageLength": [VAST]}), f"level 0 has {VAST}x{VAST} px"
    ),
    "width 0": Case(with_tags({"ImageWidth": [0]}), "Invalid TIFF"),
    "tiles of width 0": Case(with_tags({"TileWidth": [0]}), "Invalid TIFF"),
    "tiles of height 0": Case(with_tags({"TileLength": [0]}), "Invalid TIFF"),
    "tiles of 9 GiB": Case(
        with_tags({"TileWidth": [49152], "TileLength": [49152]}), "declares tiles of 49152x49152 px"
    ),
    "tiles of 63 px": Case(with_tags({"TileWidth": [63]}), "Dimensional mismatch"),
    "60,000 samples": Case(with_tags({"SamplesPerPixel": [60000]}), "Invalid TIFF"),
    "no samples": Case(with_tags({"SamplesPerPixel": [0]}), "Invalid TIFF"),
    "a tile of 2 GiB in a file of 100 kB": Case(
        with_tags({"TileByteCounts": [2**31]}), r"a tile claims 2147483648 bytes, the whole file has \d+"
    ),
    "every tile of 4 GiB": Case(
        with_tags({"TileByteCounts": [2**32 - 1] * 64}), "a tile claims 4294967295 bytes"
    ),
    "tiles behind the end": Case(with_tags({"TileOffsets": [2**32 - 100] * 64}), "the file ends 768 bytes"),
    "too few offsets": Case(with_tags({"TileOffsets": [8] * 4}, count=4), "its image data end too early"),
    "2^31 offsets": Case(with_tags({"TileOffsets": [8] * 4}, count=2**31), "not in the file's list of 0"),
    "a tile that was never stored": fine(with_tags({"TileByteCounts": [0]})),
    "no tile stored at all": Case(
        with_tags({"TileByteCounts": [0] * 64}), "0.0% of the slide is stained", "empty"
    ),
}
CODECS = {
    "unknown compression": Case(with_tags({"Compression": [65000]}), "Unsupported TIFF compression: 65000"),
    "unknown colors": Case(
        with_tags({"PhotometricInterpretation": [65000]}), "PhotometricInterpretation=65000"
    ),
    "planes in no known order": fine(with_tags({"PlanarConfiguration": [9]})),
    "a tile of zeros": Case(tile_rewritten(lambda stored: b""), "Not a JPEG file"),
    "every tile of zeros": Case(every_tile_rewritten(lambda stored: b""), "Not a JPEG file"),
    "a JPEG header before noise": Case(every_tile_rewritten(with_random_scan), "Corrupt JPEG data"),
    "no end marker": Case(every_tile_rewritten(lambda stored: stored[:-2]), "Premature end of JPEG file"),
    "tiles that declare 65,500 px": Case(
        every_tile_rewritten(lambda stored: jpeg_size(stored, 65500, 65500)), "got 65500x65500"
    ),
    "tiles that declare 0 px": Case(
        every_tile_rewritten(lambda stored: jpeg_size(stored, 0, 0)), "Empty JPEG image"
    ),
    "tiles of one component": Case(
        every_tile_rewritten(lambda stored: jpeg_components(stored, 1)), "Bogus marker length"
    ),
    "tiles of four components": Case(
        every_tile_rewritten(lambda stored: jpeg_components(stored, 4)), "Bogus marker length"
    ),
    "JPEG 2000 before noise": Case(
        plain_tile("jpeg2000", lambda stored: stored[: len(stored) // 3] + noise(len(stored))),
        "its image data end too early",
    ),
    "JPEG 2000 without its end": Case(
        plain_tile("jpeg2000", lambda stored: stored[:-2]), "its image data end too early"
    ),
    "JPEG 2000 of 16,384 components": Case(
        plain_tile("jpeg2000", lambda stored: stored.replace(b"\0\3\7\1\1", b"\x40\0\7\1\1", 1)),
        "opj_read_header failed",
    ),
    "LZW of noise": Case(plain_tile("lzw", lambda stored: noise(len(stored))), "code not yet in table"),
    "deflate of noise": Case(
        plain_tile("deflate", lambda stored: noise(len(stored))), "incorrect header check"
    ),
    "a deflated tile that swells to 512 MiB": fine(bomb),
    "a PNG tile of 2^31 px": Case(
        plain_tile("png", lambda stored: stored[:16] + struct.pack(">II", VAST, VAST) + stored[24:]),
        "IHDR: CRC error",
    ),
    "JPEG XL before noise": Case(
        plain_tile("jpegxl", lambda stored: stored[:20] + noise(len(stored))), "JXL_DEC_ERROR"
    ),
    "WebP before noise": Case(
        plain_tile("webp", lambda stored: stored[:30] + noise(len(stored))), "WebPDecodeRGBInto"
    ),
}
TIFFS = STRUCTURE | SIZES | CODECS
