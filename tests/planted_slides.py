"""Slides that carry a patient everywhere a scanner may write one: tags, properties, label, macro, file names.

Each place holds a word of its own, so that a leak tells where it came from.
"""

import base64
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import tifffile
from jpeg_tiffs import encoded, halved, write_philips
from synthetic import draw_slide, paint_slide

TILE_PX = 256
MAGENTA, GREEN = (255, 0, 255), (0, 255, 0)
"""Of the pattern on label and macro: no stain, pen or colormap has either."""
APERIO_KEYS: Final = (
    *("Filename", "Title", "User", "Date", "DSR ID", "ImageID", "Rack", "Slide", "Accession", "Patient"),
    *("Scanner ID", "ScanScope ID", "CustomField.PatientID"),
)
TAGS: Final = {
    "DocumentName": 269,
    "PageName": 285,
    "Software": 305,
    "DateTime": 306,
    "Artist": 315,
    "HostComputer": 316,
    "XMLPacket": 700,
    "Copyright": 33432,
    "UserComment": 37510,
}
PLACES: Final = (*APERIO_KEYS, *TAGS, "openslide.barcode", "OME Image Name", "folder", "file name")


def word(place: str) -> str:
    """The word that stands in a place: letters and digits only, so that no encoding changes it."""
    return f"Zq{PLACES.index(place):02d}Canary{PLACES.index(place):02d}Doe"


class Planted(NamedTuple):
    """One slide: its id names nobody, its file and folder do."""

    slide_id: str
    path: Path
    label: str
    case_id: str
    split: str


def pattern(width: int, height: int) -> np.ndarray:
    """A checkerboard of two colors in squares of 8 px."""
    rows, columns = np.indices((height, width)) // 8
    return np.where(((rows + columns) % 2)[..., None], np.uint8(MAGENTA), np.uint8(GREEN)).astype(np.uint8)


def is_patterned(pixels: np.ndarray) -> bool:
    """Whether one in 200 of an image's pixels has either color of the pattern, as far as JPEG lets it."""
    near = [np.abs(pixels.astype(int) - color).max(axis=-1) < 70 for color in (MAGENTA, GREEN)]
    return bool((near[0] | near[1]).mean() > 0.005)


def write_svs(path: Path, *, seed: int, tumor: bool) -> Path:
    """An Aperio slide of two levels with thumbnail, label and macro, a word in every key and tag."""
    pixels = paint_slide(seed=seed, with_tumor=tumor)
    height, width = pixels.shape[:2]
    size = f"{width}x{height}"
    head = f"Aperio Image Library v12.0.15 \r\n{size} [0,0 {size}] (256x256) JPEG/RGB|AppMag = 20|MPP = 0.5"
    described = head + "".join(f"|{key} = {word(key)}" for key in APERIO_KEYS)
    tags = [
        (code, 1 if name in {"XMLPacket", "UserComment"} else 2, None, _bytes(name), True)
        for name, code in TAGS.items()
    ]
    with tifffile.TiffWriter(path) as writer:
        for image, told in (
            (pixels, described),
            (pixels[::8, ::8], f"{head}|thumbnail"),
            (halved(pixels), head),
        ):
            tiled = image.shape[1] > TILE_PX
            writer.write(
                _pieces(image) if tiled else image,
                shape=image.shape,
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX) if tiled else None,
                compression="jpeg",
                photometric="ycbcr" if tiled else "rgb",
                subsampling=(1, 1) if tiled else None,
                description=told,
                extratags=tags,
                software=False,
                metadata=None,
            )
        for name, edges in (("label", (160, 120)), ("macro", (320, 120))):
            writer.write(
                pattern(*edges),
                compression="lzw" if name == "label" else "jpeg",
                subfiletype=1 if name == "label" else 9,
                photometric="rgb",
                description=f"Aperio Image Library v12.0.15 \n{name} {edges[0]}x{edges[1]}",
                extratags=tags,
                software=False,
                metadata=None,
            )
    return path


def write_barcoded(path: Path, *, seed: int) -> Path:
    """A Philips slide whose barcode is a word; OpenSlide 4.0.1 tells it as `openslide.barcode`."""
    write_philips(path, paint_slide(seed=seed, with_tumor=True), tile_px=TILE_PX)
    barcode = base64.b64encode(word("openslide.barcode").encode()).decode()
    where = 'Group="0x301D" Element="0x1002" PMSVR="IString"'
    told = f'<Attribute Name="PIM_DP_UFS_BARCODE" {where}>{barcode}</Attribute>'
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.pages[0].description
    begin = '<DataObject ObjectType="DPUfsImport">'
    tifffile.tiffcomment(path, xml.replace(begin, begin + told).encode())
    return path


def write_ome(path: Path, *, seed: int) -> Path:
    """An OME-TIFF, read by tifffile; its image and a second one are named by a word."""
    pixels, name = paint_slide(seed=seed, with_tumor=False), word("OME Image Name")
    with tifffile.TiffWriter(path, ome=True) as writer:
        scale = {f"PhysicalSize{axis}": 0.5 for axis in "XY"}
        writer.write(
            pixels,
            photometric="rgb",
            tile=(256, 256),
            compression="jpeg",
            metadata={"axes": "YXS", "Name": name, **scale},
        )
        writer.write(pattern(320, 120), photometric="rgb", metadata={"axes": "YXS", "Name": f"{name} macro"})
    return path


def plant(folder: Path) -> list[Planted]:
    """Write the cohort: every slide in a folder and a file that are named after the patient."""
    home = folder / f"{word('folder')}^JOHN"
    home.mkdir(parents=True)
    made = []
    for number in range(6):
        slide_id, tumor = f"S{number}", bool(number % 2)
        path = home / f"{slide_id}_{word('file name')} 1945.svs"
        if number == 1:
            write_barcoded(path.with_suffix(".tiff"), seed=number)
            path = path.with_suffix(".tiff")
        elif number == 0:
            path = write_ome(path.with_suffix(".ome.tiff"), seed=number)
        else:
            write_svs(path, seed=number, tumor=tumor)
        part = ("train", "val", "test")[number // 2]
        made.append(Planted(slide_id, path, "tumor" if tumor else "normal", f"P{number}", part))
    for number, kind in enumerate(("truncated", "damaged_tiles", "missing_mpp"), start=6):
        slide = draw_slide(home, kind, name=f"S{number}_{word('file name')}")
        made.append(Planted(f"S{number}", slide.path, "tumor", f"P{number}", "train"))
    return made


def _bytes(name: str) -> bytes | str:
    return word(name).encode() if name in {"XMLPacket", "UserComment"} else word(name)


def _pieces(pixels: np.ndarray):
    height, width = pixels.shape[:2]
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            tile = pixels[y : y + TILE_PX, x : x + TILE_PX]
            beyond = ((0, TILE_PX - tile.shape[0]), (0, TILE_PX - tile.shape[1]), (0, 0))
            yield encoded(np.pad(tile, beyond, mode="edge"), "ycbcr").joined()
