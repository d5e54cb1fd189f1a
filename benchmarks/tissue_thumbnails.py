"""What the tissue step finds: on real thumbnails by what is on them, and of defects drawn on slides.

    python benchmarks/tissue_thumbnails.py --thumbnails ../shared/data/patches/histolab-fixtures
    python benchmarks/tissue_thumbnails.py --slides demo/slides/demo_000_a.tiff ...

Prints Markdown tables; `--json FILE` writes the same numbers. Defaults of the settings throughout.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.files import publish_text
from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.demo.defects import INKS, Marked, draw_bubble, draw_fold, draw_pen
from wsi_kd.features.quality import QualityCheck, measure_tiles
from wsi_kd.settings.slides import MaskSettings, SlidesSettings
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.overview import Overview
from wsi_kd.slides.pyramid import plan_read, read_thumbnail, read_tile
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.tissue import look_at_overview, nothing_seen, tissue_masks
from wsi_kd.tissue.edge import find_edges
from wsi_kd.tissue.optical_density import GlassColor
from wsi_kd.tissue.segmentation import refuse_dark_field

MASK = MaskSettings()
MPP = MASK.mask_mpp
TILE_PX, TILE_MPP = 256, 0.5
BLURS_UM = (0.0, 0.5, 1.0, 2.0, 4.0)
LIMITS = (0.1, 0.15, 0.2, 0.3)


class Truth(NamedTuple):
    """What a person sees on a picture. Its resolution is not recorded: `mpp` is an assumption."""

    tissue: Literal["yes", "no", "?"]
    pen: Literal["yes", "no"]
    mpp: float
    note: str


CROP, OVERVIEW, SMALL_OVERVIEW = 8.0, 30.0, 100.0
TRUTH = {
    "almost-white-1": Truth("no", "no", CROP, "glass"),
    "almost-white-2": Truth("yes", "no", CROP, "tissue in one corner, strong JPEG noise on the glass"),
    "almost-white-ihc": Truth("no", "no", CROP, "glass"),
    "diagnostic-slide-thumb-rgb": Truth(
        "yes", "yes", OVERVIEW, "green, red and black pen at and over tissue"
    ),
    "high-nuclei-score-level2": Truth("yes", "no", CROP, "tissue above, glass below"),
    "low-nuclei-score-level1": Truth("yes", "no", CROP, "fat"),
    "medium-nuclei-score-level2": Truth("yes", "no", CROP, "tissue with hemorrhage"),
    "no-tissue-green-pen": Truth("no", "yes", CROP, "green pen, out of focus"),
    "no-tissue-line": Truth("no", "no", CROP, "edge of a bubble or cover slip"),
    "no-tissue-red-pen": Truth("no", "yes", CROP, "red and nearly black pen, out of focus"),
    "no-tissue": Truth("no", "no", CROP, "dust"),
    "no-tissue2": Truth("?", "no", CROP, "debris; a few pale fragments that may be tissue"),
    "tcga-green-pen": Truth("yes", "yes", CROP, "green pen over tissue"),
    "tcga-lung-rgb": Truth("yes", "no", CROP, "tissue, close up"),
    "tcga-red-pen": Truth("yes", "yes", CROP, "red pen over tissue"),
    "tissue-level0-4302-10273-4814-10785": Truth("yes", "no", CROP, "tissue, close up"),
    "tissue-level0-7352-11762-7864-12274": Truth("yes", "no", CROP, "tissue, close up"),
    "very-low-nuclei-score-red-pen-level1": Truth("yes", "yes", CROP, "fat below red pen, out of focus"),
    "wsi-blue-pen": Truth("yes", "yes", SMALL_OVERVIEW, "blue pen on glass beside tissue"),
}


class Found(NamedTuple):
    """What the step finds on an overview; without tissue both masks are empty."""

    tissue: Mask
    folds: Mask
    pen: Mask
    glass: GlassColor


def look(pixels: Pixels, *, mpp: float) -> Found:
    header: dict[str, Any] = {**nothing_seen(MASK), "slide_mpp": mpp, "bounds": [0, 0, *pixels.shape[1::-1]]}
    overview = Overview(pixels, 1.0, (0, 0))
    seen = look_at_overview(overview, MASK, header, marks=[])
    red, green, blue = header["glass_rgb"]
    try:
        refuse_dark_field(seen.luminance, dark_field_luminance=MASK.dark_field_luminance)
        edges = find_edges(seen.gray, mpp=mpp, max_edge_um=MASK.max_edge_um)
        tissue, folds = (
            found.whole() for found in tissue_masks(overview, seen.pen | edges, MASK, header=header)
        )
    except SlideProblem:
        tissue = folds = np.zeros(pixels.shape[:2], bool)
    return Found(tissue, folds, seen.pen.whole(), (red, green, blue))


def read_picture(path: Path) -> Pixels:
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def thumbnails_table(folder: Path) -> list[dict[str, Any]]:
    """Tell what is found on each picture, in the order of `TRUTH`."""
    rows = []
    for name, truth in TRUTH.items():
        found = look(read_picture(folder / f"{name}.png"), mpp=truth.mpp)
        rows.append(
            {
                "picture": name,
                **truth._asdict(),
                "found_tissue": round(float(found.tissue.mean()), 4),
                "found_pen": round(float(found.pen.mean()), 4),
            }
        )
    return rows


def drawn_defects(thumbnail: Pixels, tissue: Mask, glass: GlassColor) -> list[dict[str, Any]]:
    """Draw pen and folds on one overview and compare with the truth, pixel by pixel."""
    height, width = tissue.shape
    line = [
        (width // 10, height // 5),
        (width * 45 // 100, height * 55 // 100),
        (width * 9 // 10, height * 7 // 10),
    ]
    rows = []
    for ink in INKS:
        for strength in (0.5, 1.0, 1.5):
            rng = np.random.default_rng(1)
            drawn = draw_pen(thumbnail, line, ink=ink, width_px=40.0, edge_px=2.5, strength=strength, rng=rng)
            found = look(drawn.pixels, mpp=MPP).pen
            rows.append({"defect": f"{ink} pen x {strength:g}", **_counts(found, drawn, tissue)})
    depth = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    y, x = (int(value) for value in np.unravel_index(depth.argmax(), depth.shape))
    reach = int(min(50, 1.3 * depth.max()))
    fold = [(x - reach, y - reach // 3), (x, y + 5), (x + reach, y + reach // 3)]
    for layers in (2.0, 3.0):
        red, green, blue = (float(value) for value in glass)
        drawn = draw_fold(thumbnail, fold, width_px=10.0, glass=(red, green, blue), layers=layers)
        drawn = Marked(drawn.pixels, drawn.where & tissue)
        found = look(drawn.pixels, mpp=MPP).folds
        rows.append({"defect": f"fold of {layers:g} layers", **_counts(found, drawn, tissue)})
    rows.append({"defect": "rim of a bubble, as tissue", **_bubble(thumbnail, tissue)})
    return rows


def _bubble(thumbnail: Pixels, tissue: Mask) -> dict[str, int]:
    """Draw a bubble that covers a good part of the slide: how much of its rim is still taken for tissue."""
    height, width = tissue.shape
    radius = 0.35 * min(height, width)
    rows, columns = np.indices(tissue.shape)
    rim = np.abs(np.hypot(columns - width / 2, rows - height / 2) - radius) < 2
    drawn = draw_bubble(thumbnail, center=(width / 2, height / 2), radius_px=radius, sigma_px=1.0)
    found = look(drawn.pixels, mpp=MPP)
    return _counts(found.tissue & rim, Marked(drawn.pixels, rim), tissue)


def _counts(found: Mask, drawn: Marked, tissue: Mask) -> dict[str, int]:
    where = drawn.where
    return {
        "true": int(where.sum()),
        "true_tissue": int((where & tissue).sum()),
        "found": int(found.sum()),
        "hit": int((found & where).sum()),
        "hit_tissue": int((found & where & tissue).sum()),
    }


def sharpness_of(tiles: Sequence[Pixels], glass: GlassColor) -> dict[str, list[float]]:
    """Measure tiles as they are, out of focus by some um, and in an air bubble."""
    check = QualityCheck(TILE_MPP, glass, MASK.pen_colors, 0.0, 1.0, 1.0)
    spoiled = {
        f"blur {um:g} um": [cv2.GaussianBlur(t, (0, 0), um / TILE_MPP) if um else t for t in tiles]
        for um in BLURS_UM
    }
    middle = (TILE_PX / 2, TILE_PX / 2)
    spoiled["bubble"] = [draw_bubble(t, center=middle, radius_px=110.0, sigma_px=6.0).pixels for t in tiles]
    return {name: measure_tiles(some, check).sharpness.tolist() for name, some in spoiled.items()}


def read_slide(path: Path) -> tuple[Pixels, list[Pixels]]:
    """Read the overview and every tile of a coarse grid."""
    limits = SlidesSettings()
    with open_slide(path, background="metadata") as reader:
        mpp = resolve_mpp(
            reader.properties,
            override=None,
            min_mpp=limits.min_mpp,
            max_mpp=limits.max_mpp,
            from_objective=True,
            max_anisotropy=limits.max_anisotropy,
        ).mpp
        overview = read_thumbnail(reader, slide_mpp=mpp, thumbnail_mpp=MPP).pixels
        plan = plan_read(
            reader.level_downsamples, slide_mpp=mpp, tile_mpp=TILE_MPP, tile_px=TILE_PX, mpp_tolerance=0.05
        )
        step = round(2 * plan.tile_level0_px)
        x, y, width, height = reader.bounds
        places = [
            (left, top)
            for top in range(y, y + height - round(plan.tile_level0_px), step)
            for left in range(x, x + width - round(plan.tile_level0_px), step)
        ]
        tiles = [read_tile(reader, x_level0_px=left, y_level0_px=top, plan=plan) for left, top in places]
    return overview, tiles


def slides_tables(paths: Sequence[Path]) -> dict[str, Any]:
    """Add up the pixels of all slides a defect; false pen and folds of the slides as they are."""
    plain, drawn, sharpness = [], {}, {}
    for path in paths:
        overview, tiles = read_slide(path)
        found = look(overview, mpp=MPP)
        tissue_px = int(found.tissue.sum())
        plain.append(
            {
                "slide": path.stem,
                "tissue_mm2": tissue_px * MPP**2 / 1e6,
                "false_pen_share": float(found.pen.mean()),
                "fold_share": int(found.folds.sum()) / max(1, tissue_px),
            }
        )
        for row in drawn_defects(overview, found.tissue, found.glass):
            total = drawn.setdefault(row.pop("defect"), dict.fromkeys(row, 0))
            total.update({key: total[key] + value for key, value in row.items()})
        check = QualityCheck(TILE_MPP, found.glass, MASK.pen_colors, 0.0, 1.0, 1.0)
        background = measure_tiles(tiles, check).background_fraction
        kept = [tile for tile, share in zip(tiles, background, strict=True) if share < 0.5]
        for name, values in sharpness_of(kept, found.glass).items():
            sharpness.setdefault(name, []).extend(values)
    return {"plain": plain, "drawn": drawn, "sharpness": sharpness}


def show_thumbnails(rows: Sequence[dict[str, Any]]) -> None:
    print("\n| picture | seen | tissue | found | pen | found |\n|---|---|---|---|---|---|")
    for row in rows:
        cells = (row["picture"], row["note"], row["tissue"], f"{row['found_tissue']:.1%}")
        print(f"| {' | '.join(cells)} | {row['pen']} | {row['found_pen']:.1%} |")
    for thing in ("tissue", "pen"):
        print(f"\n| {thing} | found | not found |\n|---|---|---|")
        for there, name in (("yes", "there"), ("no", "not there")):
            hits = [row[f"found_{thing}"] > 0 for row in rows if row[thing] == there]
            print(f"| {name} | {sum(hits)} | {len(hits) - sum(hits)} |")


def show_slides(tables: dict[str, Any]) -> None:
    print("\n| slide as it is | tissue mm2 | pen | fold |\n|---|---|---|---|")
    for row in tables["plain"]:
        shares = f"{row['false_pen_share']:.2%} | {row['fold_share']:.2%}"
        print(f"| {row['slide']} | {row['tissue_mm2']:.2f} | {shares} |")
    print("\n| drawn | precision | recall | recall over tissue |\n|---|---|---|---|")
    for name, n in tables["drawn"].items():
        shares = (
            n["hit"] / max(1, n["found"]),
            n["hit"] / n["true"],
            n["hit_tissue"] / max(1, n["true_tissue"]),
        )
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    heads = " | ".join(f"below {limit:g}" for limit in LIMITS)
    print(f"\n| tiles | sharpness 5 % | median | 95 % | {heads} |\n|---|---|---|---|{'---|' * len(LIMITS)}")
    for name, values in tables["sharpness"].items():
        spread = [f"{value:.2f}" for value in np.quantile(values, (0.05, 0.5, 0.95))]
        below = [f"{np.mean(np.array(values) < limit):.0%}" for limit in LIMITS]
        print(f"| {name} ({len(values)}) | {' | '.join((*spread, *below))} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--thumbnails", type=Path, help="folder of histolab's test pictures")
    parser.add_argument("--slides", type=Path, nargs="*", default=[], help="slides without pen and folds")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    if given.thumbnails:
        results["thumbnails"] = thumbnails_table(given.thumbnails)
        show_thumbnails(results["thumbnails"])
    if given.slides:
        results["slides"] = slides_tables(given.slides)
        show_slides(results["slides"])
    if given.json:
        publish_text(given.json, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
