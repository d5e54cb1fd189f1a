"""A cohort of damaged slides, and the look at what the line made of them."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from jpeg_tiffs import write_tiff
from mutants import Area, mutants
from PIL import Image
from synthetic import paint_slide

SIDE, TILE_PX, MPP = 256, 64, 1.0
SETTINGS = {
    "run": {"slides_per_job": 10_000},
    "tile": {"tile_px": TILE_PX, "tile_mpp": MPP},
    "embed": {"encoder": "pixels", "input_px": TILE_PX, "max_damaged_fraction": 0.5},
}
"""Pixels as features: what was read can be compared with what is read again."""


class Sound(NamedTuple):
    """A sound file, and where damage is done."""

    suffix: str
    content: bytes
    areas: list[Area]


def sound_slides(folder: Path) -> list[Sound]:
    """Return a slide of every way of reading: OpenSlide's Aperio and plain TIFF, OME-TIFF, PNG, JPEG."""
    pixels = np.ascontiguousarray(paint_slide(seed=5, with_tumor=True)[280:536, 180:436])
    write_tiff(folder / "sound.svs", pixels, tile_px=TILE_PX)
    tile = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb"}
    with tifffile.TiffWriter(folder / "sound.tif") as tiff:
        for step in (1, 2):
            tiff.write(
                pixels[::step, ::step], compression="jpeg", subfiletype=step - 1, metadata=None, **tile
            )
    with tifffile.TiffWriter(folder / "sound.ome.tif", ome=True) as tiff:
        tiff.write(pixels, subifds=1, compression="deflate", **tile)
        tiff.write(pixels[::2, ::2], subfiletype=1, compression="deflate", **tile)
    Image.fromarray(pixels).save(folder / "sound.png")
    Image.fromarray(pixels).save(folder / "sound.jpg", quality=90)
    names = ("sound.svs", "sound.tif", "sound.ome.tif", "sound.png", "sound.jpg")
    found = [(name, (folder / name).read_bytes()) for name in names]
    return [Sound(name.removeprefix("sound"), content, _areas(content)) for name, content in found]


def _areas(content: bytes) -> list[Area]:
    """The directories of a TIFF, its ends and its tiles; of an image its head and its pixels."""
    ends = [(0, 400), (0, len(content))]
    if not content.startswith(b"II*\0"):
        return ends
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        pages = [one for page in tiff.pages for one in (page, *(page.pages or ()))]
        directories = [(page.offset, page.offset + 2 + 12 * len(page.tags) + 4) for page in pages]
        lists = [(tag.valueoffset, tag.valueoffset + 64) for tag in pages[0].tags if tag.count > 1]
    return [*ends, *directories * 3, *lists]


def write_mutants(folder: Path, *, count: int, seed: int) -> None:
    """Write `count` damaged slides and their manifest, the kinds by turns."""
    kinds = sound_slides(folder)
    each = -(-count // len(kinds))
    damaged = [mutants(kind.content, kind.areas, count=each, seed=seed + n) for n, kind in enumerate(kinds)]
    rows = ["slide_id,path,label,slide_mpp"]
    for number in range(count):
        name = f"m{number}{kinds[number % len(kinds)].suffix}"
        (folder / name).write_bytes(next(damaged[number % len(kinds)]))
        rows.append(f"m{number},{name},{('normal', 'tumor')[number // len(kinds) % 2]},{MPP}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def unlike_tiles(folder: Path) -> list[str]:
    """Name slides that ended ok and whose tiles, read anew one by one, fail or are others than those kept."""
    from wsi_kd.features.store import read_features
    from wsi_kd.slides.reader import open_slide

    unlike = []
    with (folder / "slides.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        name = row["slide_id"]
        features = read_features(folder / "run/features" / f"{name}.h5")
        if features.header["status"] != "ok":
            unlike += [f"{name}: failed, with tiles"] * bool(len(features.coords))
            continue
        stored = features.features.reshape(-1, TILE_PX, TILE_PX, 3)
        size = {"level": 0, "width_px": TILE_PX, "height_px": TILE_PX}
        corners = features.coords.tolist()
        try:
            with open_slide(folder / row["path"], background="metadata") as reader:
                again = [reader.read_region(x_level0_px=x, y_level0_px=y, **size) for x, y in corners]
        except Exception as error:
            unlike.append(f"{name}: {error}")
            continue
        laid = features.header["tiles_laid"] - features.header["damaged_tiles"]
        if laid != len(again) or not np.array_equal(stored, np.stack(again)):
            unlike.append(f"{name}: other pixels")
    return unlike
