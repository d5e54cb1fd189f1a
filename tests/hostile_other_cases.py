"""Hostile metadata, names and files that are no TIFF, and what is to be said of each."""

import os
import struct
import zlib
from pathlib import Path

from hostile_cases import DAMAGED, NO_POSITIVE, Case, fine, no_mpp, refused
from hostile_others import (
    LAUGHS,
    OME,
    PNG_PIXELS,
    below_file,
    edited,
    fifo,
    jpeg_declaring,
    link,
    mirax,
    named,
    ome,
    ome_of,
    png,
    png_chunk,
    zarr,
    zarray,
)
from hostile_tiffs import SIDE, VAST, Recipe, aperio, bomb, described, noise, of_bytes, plain, svs, with_tags


def beside(name: str, target: str) -> Recipe:
    """A whole slide below another name, and a link to it."""

    def make(folder: Path) -> Path:
        svs(folder, name=name)
        return link(target)(folder)

    return make


def folder_called_svs(folder: Path) -> Path:
    (folder / "slide.svs").mkdir()
    return folder / "slide.svs"


def ome_bomb(folder: Path) -> Path:
    """tifffile reads this one, libtiff a plain TIFF."""
    xml = OME.format(before="", image="", x=SIDE, z=1, mpp=0.5, ifd=0, planes=1)
    return bomb(folder, name="slide.ome.tif", description=xml.encode())


def not_text(folder: Path) -> Path:
    return svs(folder, name=os.fsdecode(b"\xff\xe9.svs"))


APERIO = "Aperio Image Library v12\r\n512x512 JPEG|MPP = 0.5"
METADATA = {
    "0 um/px": no_mpp(aperio("|MPP = 0"), f"'0' {NO_POSITIVE}"),
    "negative um/px": no_mpp(aperio("|MPP = -0.5"), f"'-0.5' {NO_POSITIVE}"),
    "NaN um/px": no_mpp(aperio("|MPP = nan"), f"'nan' {NO_POSITIVE}"),
    "infinite um/px": no_mpp(aperio("|MPP = inf"), f"'inf' {NO_POSITIVE}"),
    "1e308 um/px": no_mpp(aperio("|MPP = 1e308"), "outside 0.05 to 20 um/px"),
    "a format string as um/px": no_mpp(aperio("|MPP = %s%n"), f"'%s%n' {NO_POSITIVE}"),
    "a decimal comma": Case(aperio("|MPP = 0,25"), "no piece reaches 20000 um2", "empty"),
    "no um/px": no_mpp(aperio("")),
    "a description of 50 MiB": Case(
        described(f"{APERIO}|Note = {'x' * (50 << 20)}".encode() + b"\0"),
        "its description has 52428857 bytes",
    ),
    "NUL within the description": no_mpp(described(APERIO.replace("x512", "\0x512").encode() + b"\0")),
    "a description that is no text": fine(described(APERIO.encode() + b"|Note = \xff\xfe\xc3\x28\0")),
    "a description without end": fine(described(APERIO.encode())),
    "100,000 empty fields": fine(described(APERIO.replace("|", "|" * 100_000).encode() + b"\0")),
    "a billion laughs": Case(ome_of(before=LAUGHS, image=' Name="&a9;"'), "DTDForbidden"),
    "an external entity": Case(
        ome_of(before='<!DOCTYPE o [<!ENTITY e SYSTEM "file:///etc/passwd">]>', image=' Name="&e;"'),
        "DTDForbidden",
    ),
    "OME-XML of another size": fine(ome_of(x=999)),
    "an OME-TIFF with a tile that swells to 512 MiB": Case(ome_bomb, "INSUFFICIENT_SPACE"),
    "OME-XML of 2^31-1 focal planes": Case(ome_of(z=VAST), f"{VAST} focal planes"),
    "OME-XML that names page 99": Case(ome_of(ifd=99), "names planes that the file's 1 pages do not hold"),
    "OME-XML of a billion planes": fine(ome_of(planes=10**9)),
    "OME-XML of NaN um/px": no_mpp(ome_of(mpp="NaN"), f"'NaN' µm {NO_POSITIVE}"),
    "OME-XML of 0 um/px": no_mpp(ome_of(mpp=0), f"'0' µm {NO_POSITIVE}"),
    "OME-XML that breaks off": no_mpp(ome(OME[:300])),
    "OME-XML 100,000 elements deep": no_mpp(ome(OME.split("<Image")[0].format(before="") + "<a>" * 100_000)),
    "resolution 0/0": no_mpp(with_tags({"XResolution": [0, 0], "YResolution": [0, 0]}, of=plain)),
    "resolution 1/0": no_mpp(with_tags({"XResolution": [1, 0], "YResolution": [1, 0]}, of=plain)),
}
NAMES = {
    "a line break in the name": refused(named("a\nb.svs"), "holds a control or invisible character"),
    "a name in pictures": fine(named("\N{MICROSCOPE}.svs")),
    "a name like an option": refused(named("-rf.svs"), "starts with '-'"),
    "a name of 255 bytes": refused(named("x" * 251 + ".svs"), "is longer than 200 bytes"),
    "a name that is no text": refused(not_text, "holds a control or invisible character"),
    "a folder": refused(folder_called_svs, "no slide in this folder"),
    "a pipe": refused(fifo, "no such slide file"),
    "a link to itself": refused(link("slide.svs"), "no such slide file"),
    "a link to nowhere": refused(link("nowhere"), "no such slide file"),
    "an endless device": refused(link("/dev/zero"), "no such slide file"),
    "a path through a file": refused(below_file, "no such slide file"),
    "a link to a slide": fine(beside("other.svs", "other.svs")),
    "a link to what is no slide": Case(link("/etc/passwd"), "no format that is read here"),
}
PHYS = png_chunk(b"pHYs", struct.pack(">IIB", 2_000_000, 2_000_000, 1))
OTHERS = {
    "a PNG of 2^31 px": Case(png(VAST, VAST, PNG_PIXELS), "179 megapixels"),
    "a PNG without pixels": Case(png(64, 64, PHYS), DAMAGED),
    "a PNG with too few pixels": Case(png(64, 64, PHYS, png_chunk(b"IDAT", zlib.compress(b"ab"))), DAMAGED),
    "a color profile that swells to 256 MiB": Case(
        png(64, 64, png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**28), 9)), PHYS, PNG_PIXELS),
        "Decompressed data too large",
    ),
    "texts that swell to 480 MiB": Case(
        png(
            64,
            64,
            *[png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**24), 9))] * 30,
            PHYS,
            PNG_PIXELS,
        ),
        "Decompressed data too large",
    ),
    "a JPEG of 65,500 px": Case(jpeg_declaring(65500, 65500), "179 megapixels"),
    "a JPEG of 10,000 px in 10 kB": no_mpp(jpeg_declaring(10000, 10000)),
    "a zip archive": Case(of_bytes(b"PK\3\4" + noise(500)), "a zip archive; unpack it first"),
    "a GIF": Case(of_bytes(b"GIF89a" + noise(500)), "no format that is read here"),
    "noise": Case(of_bytes(noise(5000)), "no format that is read here"),
    "MIRAX with data elsewhere": Case(
        mirax(edited("Slidedat.ini", "Data0000.dat", "../../../../etc/passwd")), "1 files are missing"
    ),
    "MIRAX of 2^31 images a row": Case(
        mirax(edited("Slidedat.ini", "IMAGENUMBER_X = 4", f"IMAGENUMBER_X = {VAST}")),
        f"declares {VAST}x4 images",
    ),
    "MIRAX of -4 images a row": Case(
        mirax(edited("Slidedat.ini", "IMAGENUMBER_X = 4", "IMAGENUMBER_X = -4")), "images_x <= 0"
    ),
    "MIRAX of a billion files": Case(
        mirax(edited("Slidedat.ini", "FILE_COUNT = 1", "FILE_COUNT = 1000000000")), "Slidedat.ini is damaged"
    ),
    "MIRAX with noise as data": Case(
        mirax(lambda folder: (folder / "Data0000.dat").write_bytes(noise(5000))), "Short read of file"
    ),
    "MIRAX with noise as index": Case(
        mirax(lambda folder: (folder / "Index.dat").write_bytes(noise(500))), "expected version"
    ),
    "Zarr with chunks of 3 TiB": Case(
        zarr(zarray([3, 2**20, 2**20], [3, 2**20, 2**20])), "3,145,728 MiB each"
    ),
    "Zarr of 2^40 px": no_mpp(zarr(zarray([3, 2**40, 2**40], [1, 64, 64]))),
    "Zarr of objects": Case(zarr(zarray([3, 64, 64], [1, 64, 64], "|O")), "its Zarr metadata are damaged"),
    "Zarr metadata 100,000 lists deep": Case(zarr("[" * 100_000), "RecursionError"),
    "Zarr with chunks of 0 px": Case(zarr(zarray([3, 64, 64], [0, 0, 0])), "a level without pixels"),
    "Zarr of negative size": Case(zarr(zarray([3, -64, 64], [1, 64, 64])), "non-negative"),
}
NOT_TIFFS = METADATA | NAMES | OTHERS
