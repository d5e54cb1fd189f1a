"""What the page of slides costs: `wsi-kd qc` on drawn slides, then the page alone for a large cohort.

    OMP_NUM_THREADS=1 python benchmarks/qc_page.py
    python benchmarks/qc_page.py --slides 40 --cards 500 --out results/qc_page --json results/qc_page.json

One slide is drawn and linked under many names; masks and tiles are made first and not timed. `first` makes
every thumbnail, `again` keeps them all. To see how a browser opens the page: --out, then open index.html.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.core.shapes import Pixels
from wsi_kd.demo.pyramid import write_pyramid
from wsi_kd.report.qc_page import render_qc
from wsi_kd.report.qc_record import QcSlide, QcThumbnail, TileCounts
from wsi_kd.settings.all import Settings
from wsi_kd.slides.facts import SlideFacts
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.qc import QcChunk, QcFolders, run_qc
from wsi_kd.steps.tile import run_tile

MPP = 0.5
EDGE_PX = 8192


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=100, help="slides that wsi-kd qc works through")
    parser.add_argument("--cards", type=int, default=3000, help="slides of the page that is made alone")
    parser.add_argument("--out", type=Path, help="keep the page here, to open it in a browser")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {**time_step(Path(folder), slides=options.slides), **time_page(options.cards, options.out)}
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    if options.json is not None:
        publish_json(options.json, {**stamp("benchmark", {}), "figures": found})


def time_step(folder: Path, *, slides: int) -> dict[str, float]:
    """Run the step twice on one drawn slide under many names."""
    drawn = folder / "drawn.tiff"
    write_pyramid(drawn, draw_tissue(), mpp=MPP, container="tiff")
    rows = []
    for number in range(slides):
        path = folder / f"slide_{number:05d}.tiff"
        path.hardlink_to(drawn)
        rows.append(SlideRow(path.stem, path, "normal", path.stem, "", None, None, ""))
    settings = Settings()
    folders = QcFolders(folder / "masks", folder / "tiles", folder / "features")
    tables = [one / "chunk-0.csv" for one in folders]
    run_mask(rows, masks_dir=folders.masks, status_path=tables[0], settings=settings)
    run_tile(rows, masks_dir=folders.masks, tiles_dir=folders.tiles, status_path=tables[1], settings=settings)
    seconds = {}
    for turn in ("first", "again"):
        started = time.perf_counter()
        chunk = QcChunk(rows, "tile", tables[1])
        run_qc([chunk], folders=folders, out_dir=folder / "qc", settings=settings)
        seconds[f"{turn}_seconds_a_slide"] = (time.perf_counter() - started) / slides
    thumbnails = [path.stat().st_size for path in (folder / "qc" / "thumbnails").iterdir()]
    return {"threads": usable_cpus(), **seconds, "thumbnail_kb_a_slide": sum(thumbnails) / slides / 1000}


def time_page(cards: int, out: Path | None) -> Mapping[str, float]:
    """Make the page of a cohort of `cards` slides, all of them measured."""
    slides = [card(number) for number in range(cards)]
    started = time.perf_counter()
    text = render_qc(slides, title="benchmark", research_only=RESEARCH_ONLY)
    seconds = time.perf_counter() - started
    if out is not None:
        publish_text(out / "index.html", text)
    return {"cards": cards, "page_seconds": seconds, "page_mb": len(text.encode()) / 1e6}


def card(number: int) -> QcSlide:
    """Return a slide as a finished run would show it."""
    name = f"slide_{number:05d}"
    return QcSlide(
        StatusRow(name, SlideStatus.OK, "", "embed", 2000 + number, 120.5, 0.25, "vendor", 1.0),
        90_000,
        70_000,
        SlideFacts("openslide/aperio", "aperio", "SS1234", "40"),
        "thumbnail",
        {"pen": 0.0, "fold": 1.2},
        TileCounts(2000, 10, 0, number % 300),
        QcThumbnail(f"thumbnails/{name}.jpg", f"thumbnails/{name}.svg", 512, 398),
    )


def draw_tissue() -> Pixels:
    """Draw a slide of two stained pieces on glass, with grain that JPEG does not swallow."""
    random = np.random.default_rng(0)
    pixels = np.full((EDGE_PX, EDGE_PX, 3), 242, np.uint8)
    for x in (EDGE_PX // 3, 2 * EDGE_PX // 3):
        cv2.ellipse(pixels, (x, EDGE_PX // 2), (EDGE_PX // 7, EDGE_PX // 3), 20, 0, 360, (205, 140, 190), -1)
    grain = random.integers(0, 24, pixels.shape, dtype=np.uint8)
    return np.asarray(cv2.subtract(pixels, grain))


if __name__ == "__main__":
    main()
