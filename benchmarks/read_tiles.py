"""How fast tiles are read: this line's reader, others, and the limit that JPEG decoding sets, in one run.

    python benchmarks/read_tiles.py
    python benchmarks/read_tiles.py --quick --json results/read_tiles.json

Reads a large drawn slide (written once below `--out`) and the real `CMU-1-Small-Region.svs` where `--data`
has it, in tiles as large as the stored ones and twice as large, aligned with them and shifted by 100 px, with
one and two workers. All ways take turns; each is opened before it is timed, and all figures are medians over
the turns. The limit is the decoder alone, on the same stored tiles from memory; ratios are those of one turn.
Seconds by the wall are what a user waits, seconds of the processor (children counted) what stays comparable
on a busy machine. Ways that take long read a part of the grid: rates compare, not totals.
"""

import argparse
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from bench_record import MeasuredTable, bench_record, measured_table
from large_slide import draw_large_slide
from tile_readers import WAYS, Job
from wsi_kd.core.files import publish_json
from wsi_kd.core.memory import freed_memory_kept
from wsi_kd.core.shapes import Coords
from wsi_kd.slides.reader import open_slide

SHIFT_PX: Final = 100
LIMIT: Final = "limit (simplejpeg)"
WHOLE_GRID: Final = frozenset({"ours", "ours, batches as embed", "cucim", LIMIT, "limit (imagecodecs)"})
REAL_SLIDE: Final = "wsi/CMU-1-Small-Region.svs"
COLUMNS: Final = ("way", "tiles/s", "of the limit", "CPU tiles/s", "of the limit (CPU)", "open ms")


class Case(NamedTuple):
    """One block of the table."""

    slide: Path
    tile_px: int
    shift_px: int
    workers: int


class Timing(NamedTuple):
    """One turn of one way."""

    tiles_per_second: float
    tiles_per_cpu_second: float
    open_seconds: float


def grid(slide: Path, case: Case) -> Coords:
    """Return the corners of all tiles that lie inside the slide, row by row."""
    with open_slide(slide, background="metadata") as reader:
        axes = [
            np.arange(case.shift_px, edge - case.tile_px + 1, case.tile_px, dtype=np.int64)
            for edge in reader.level_dimensions[0]
        ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)


def time_way(name: str, job: Job) -> Timing:
    """Open a way, read the job once, and time both."""
    opening = time.perf_counter()
    with WAYS[name](job) as read:
        opened, used = time.perf_counter(), _cpu_seconds()
        tiles = read()
        took, cpu = time.perf_counter() - opened, _cpu_seconds() - used
    return Timing(tiles / took, tiles / cpu, opened - opening)


def measure(case: Case, *, turns: int, slow_tiles: int) -> list[dict[str, Any]]:
    """Let all ways take turns; return one row a way, with its share of the limit in the same turn."""
    coords = grid(case.slide, case)
    few = max(1, slow_tiles * 256**2 // case.tile_px**2)
    start = max(0, (len(coords) - few) // 2)
    timings: dict[str, list[Timing]] = {name: [] for name in WAYS}
    absent: dict[str, str] = {}
    for _ in range(turns):
        for name in WAYS:
            part = coords if name in WHOLE_GRID else coords[start : start + few]
            try:
                timings[name].append(time_way(name, Job(case.slide, part, case.tile_px, case.workers)))
            except ImportError as error:
                absent[name] = f"not installed ({error})"
    limits = timings[LIMIT]
    return [
        {"way": name, "absent": absent[name]} if name in absent else _row(name, timings[name], limits)
        for name in WAYS
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay one case out as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        if "absent" in row:
            lines.append(f"| {row['way']} | {row['absent']} |" + " |" * (len(COLUMNS) - 2))
            continue
        lines.append(
            f"| {row['way']} | {row['tiles_per_second']:,.0f} | {row['of_limit']:.2f} "
            f"| {row['tiles_per_cpu_second']:,.0f} | {row['of_limit_cpu']:.2f} "
            f"| {1e3 * row['open_seconds']:.1f} |"
        )
    return "\n".join(lines)


def scaling(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tell how much two workers give over one, for each way that was measured with both."""
    by_case = {(tuple(block["case"][:3]), block["case"][3]): block["rows"] for block in blocks}
    for (case, workers), rows in by_case.items():
        single = by_case.get((case, 1))
        if workers == 1 or single is None:
            continue
        gains = [
            f"{row['way']} {row['tiles_per_second'] / one['tiles_per_second']:.2f}"
            for one, row in zip(single, rows, strict=True)
            if "absent" not in row
        ]
        yield f"{_named(Case(Path(case[0]), *case[1:], workers))} over one: {', '.join(gains)}"


def page_tables(blocks: Sequence[Mapping[str, Any]]) -> dict[str, MeasuredTable]:
    """Lay the first slide's cases side by side for docs/performance.md: a table a number of workers."""
    first = [block for block in blocks if block["case"][0] == blocks[0]["case"][0]]
    found = {}
    for workers in sorted({block["case"][3] for block in first}):
        chosen = [block for block in first if block["case"][3] == workers]
        columns = {"way": ""}
        for _, tile_px, shift_px, _ in (block["case"] for block in chosen):
            how = f"{tile_px} px, {'shifted' if shift_px else 'aligned'}"
            columns |= {f"{how}: tiles/s": ",.0f", f"{how}: of the limit": ".2f"}
        rows = [
            [ways[0]["way"], *(way.get(key) for way in ways for key in ("tiles_per_second", "of_limit"))]
            for ways in zip(*(block["rows"] for block in chosen), strict=True)
        ]
        found[f"workers_{workers}"] = measured_table(columns, rows)
    return found


def cases(slides: Sequence[Path], *, factors: Sequence[int], workers: Sequence[int]) -> Iterator[Case]:
    """List what is measured: tiles some factors larger than the stored ones."""
    for slide in slides:
        with open_slide(slide, background="metadata") as reader:
            stored_px = int(reader.properties["openslide.level[0].tile-width"])
        for tile_px in (factor * stored_px for factor in factors):
            for shift_px in (0, SHIFT_PX):
                for count in workers:
                    yield Case(slide, tile_px, shift_px, count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them as JSON where asked for."""
    chosen = _parser().parse_args(arguments)
    edge_px, turns, slow = (1024, 1, 16) if chosen.quick else (16384, chosen.turns, 1024)
    drawn = chosen.out / f"drawn-{edge_px}.svs"
    if not drawn.is_file():
        draw_large_slide(drawn, edge_px=edge_px, piece_px=min(4096, edge_px // 2))
    slides = [drawn, *(path for path in [chosen.data / REAL_SLIDE] if path.is_file())]
    blocks = []
    for case in cases(slides, factors=(1,) if chosen.quick else (1, 2), workers=chosen.workers):
        with freed_memory_kept():  # as from slide to slide of a job, whose arrays stay
            rows = measure(case, turns=turns, slow_tiles=slow)
        blocks.append({"case": [case.slide.name, *case[1:]], "rows": rows})
        print(f"\n{_named(case)}\n\n{table(rows)}", flush=True)
    print("", *scaling(blocks), sep="\n")
    if chosen.json:
        asked = {"turns": turns, "slow_tiles": slow}
        publish_json(
            chosen.json, bench_record("read_tiles", asked, tables=page_tables(blocks), blocks=blocks)
        )


def _row(name: str, timings: Sequence[Timing], limits: Sequence[Timing]) -> dict[str, Any]:
    pairs = list(zip(timings, limits, strict=True))
    return {
        "way": name,
        "tiles_per_second": median(one.tiles_per_second for one in timings),
        "of_limit": median(one.tiles_per_second / limit.tiles_per_second for one, limit in pairs),
        "tiles_per_cpu_second": median(one.tiles_per_cpu_second for one in timings),
        "of_limit_cpu": median(one.tiles_per_cpu_second / limit.tiles_per_cpu_second for one, limit in pairs),
        "open_seconds": median(one.open_seconds for one in timings),
    }


def _named(case: Case) -> str:
    how = f"shifted by {case.shift_px} px" if case.shift_px else "aligned"
    many = "1 worker" if case.workers == 1 else f"{case.workers} workers"
    return f"{case.slide.name}, {case.tile_px} px, {how}, {many}"


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real slides")
    parser.add_argument(
        "--out", type=Path, default=Path("results/read_tiles"), help="folder of the drawn slide"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--turns", type=int, default=5, help="turns of every way (default: 5)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--quick", action="store_true", help="a small slide and one turn: does it run?")
    return parser


if __name__ == "__main__":
    main()
