"""How fast `embed` is, by part: reader, hand-over, encoder, and all of it, with what limits it, in one run.

    python benchmarks/embed_speed.py --json results/bench/embed_speed.json
    python benchmarks/embed_speed.py --quick

Reads a drawn slide (all tissue, written once below `--out`). Encoders have random weights, which cost what
others cost. The parts take turns, ratios are medians of those within a turn: by the wall, and by the
processor's seconds, which stay comparable on a busy machine. On a GPU, encoders are run on random tiles
beside a large matrix product; without one that part says so.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from bench_record import Value, bench_record, measured_table
from embed_gpu import GPU_COLUMNS, gpu_rows
from embed_parts import (
    BATCH,
    TRUNCATED,
    Speed,
    Taking,
    TakingTiles,
    bare_network,
    bare_reader,
    build,
    embed_only,
    grid,
    in_turns,
    ratios,
    start_up_ms,
    whole_line,
)
from embed_profile import PROFILE_COLUMNS, profile_rows
from large_slide import draw_large_slide
from wsi_kd.core.files import publish_json
from wsi_kd.core.machine import usable_cpus
from wsi_kd.features.encoders import Encoder, PreparedEncoder
from wsi_kd.features.network_encoder import NetworkEncoder

ENCODERS: Final = ("stain_texture", "mobilenetv3_small_100", TRUNCATED)
BARE, PLAIN, HANDED, ONLY, ALL, NETWORK = (
    "bare reader",
    "read, hand over",
    "read, measure, hand over",
    "embed-only",
    "end to end",
    "bare network",
)
COLUMNS: Final = {
    "encoder": "",
    "part": "",
    "tiles/s": ",.0f",
    "against": "",
    "ratio": ".2f",
    "ratio (processor)": ".2f",
    "goal": ".2f",
}
GOALS: Final = {PLAIN: (BARE, 0.8), HANDED: (BARE, 0.8), ALL: (ONLY, 0.9), ONLY: (NETWORK, 0.91)}
"""What each part is held against, and the least quotient; 0.91 is 1 / 1.1."""
PROFILED_TILES: Final = 512
"""Of which each part is measured by itself: they are kept in memory."""


def measure(name: str, slide: Path, chosen: argparse.Namespace) -> dict[str, list[Speed]]:
    """Let the parts of one encoder take turns."""
    encoder = build(name, precision=chosen.precision, device="cpu")
    workers = chosen.workers
    rates = timed_tiles(encoder, chosen)
    taking = Taking(encoder) if isinstance(encoder, PreparedEncoder) else TakingTiles()
    read, encoded = grid(slide, tiles=chosen.read_tiles), grid(slide, tiles=rates)
    parts = {
        BARE: bare_reader(slide, read, workers=workers),
        PLAIN: whole_line([slide], read, taking, workers=workers, check=None),
        HANDED: whole_line([slide], read, taking, workers=workers),
        ONLY: embed_only(encoder, tiles=rates, workers=workers),
        ALL: whole_line([slide], encoded, encoder, workers=workers),
    }
    if isinstance(encoder, NetworkEncoder):
        parts[NETWORK] = bare_network(encoder, tiles=rates)
    for work in parts.values():  # libraries are loaded and kernels chosen from now on
        work()
    return in_turns(parts, turns=chosen.turns)


def profile(name: str, slide: Path, chosen: argparse.Namespace) -> Iterator[list[Value]]:
    """Tell where the time of a tile goes on its way to one encoder."""
    encoder = build(name, precision=chosen.precision, device="cpu")
    few = grid(slide, tiles=min(chosen.read_tiles, PROFILED_TILES))
    told = {"workers": chosen.workers, "turns": chosen.turns}
    yield from profile_rows(name, encoder, slide=slide, coords=few, **told)


def timed_tiles(encoder: Encoder, chosen: argparse.Namespace) -> int:
    """Return how many tiles take about `--seconds` to encode, in whole batches."""
    few = embed_only(encoder, tiles=BATCH, workers=chosen.workers)
    few()
    speed = in_turns({"few": few}, turns=1)["few"][0].wall
    most: int = chosen.read_tiles
    seconds: float = chosen.seconds
    return max(BATCH, min(most, round(speed * seconds / BATCH) * BATCH))


def rows_of(name: str, found: Mapping[str, Sequence[Speed]]) -> Iterator[list[Value]]:
    """Lay one encoder's parts out: rate, and ratio with what each is held against."""
    for part, speeds in found.items():
        against, goal = GOALS.get(part, ("", None))
        rate = median(speed.wall for speed in speeds)
        if against not in found:
            yield [name, part, rate, None, None, None, None]
            continue
        yield [name, part, rate, against, *ratios(speeds, found[against]), goal]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the rows and write them as JSON where asked for."""
    chosen = _parser().parse_args(arguments)
    if chosen.quick:
        chosen.read_tiles, chosen.turns, chosen.seconds, chosen.slides = 16, 1, 0.1, 3
    edge_px = 1024 if chosen.quick else 16384
    slide = chosen.out / f"drawn-{edge_px}.svs"
    if not slide.is_file():
        draw_large_slide(slide, edge_px=edge_px, piece_px=min(4096, edge_px // 2))
    torch.set_num_threads(usable_cpus())
    rows: list[list[Value]] = []
    profiles: list[list[Value]] = []
    for name in chosen.encoders:
        found = list(rows_of(name, measure(name, slide, chosen)))
        spent = list(profile(name, slide, chosen))
        rows, profiles = rows + found, profiles + spent
        _tell(found, COLUMNS)
        _tell(spent, PROFILE_COLUMNS)
    startup = start_up_ms(slide, TakingTiles(), slides=chosen.slides, tiles=64, workers=chosen.workers)
    print(f"a slide of 64 tiles costs {startup:.1f} ms beyond its tiles (of one among {chosen.slides})")
    on_gpu = gpu_rows() if torch.cuda.is_available() else []
    print("GPU: " + (f"{len(on_gpu)} rows" if on_gpu else "skipped, torch sees none"))
    if chosen.json:
        settings: dict[str, Any] = {
            key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()
        }
        startup_table = measured_table(
            {"slides": ",.0f", "tiles each": ",.0f", "start-up of a slide (ms)": ".1f"},
            [[chosen.slides, 64, startup]],
        )
        tables = {
            "parts": measured_table(COLUMNS, rows),
            "tile_profile": measured_table(PROFILE_COLUMNS, profiles),
            "start_up": startup_table,
            "gpu": measured_table(GPU_COLUMNS, on_gpu),
        }
        publish_json(chosen.json, bench_record("embed_speed", settings, tables=tables))


def _tell(rows: Sequence[Sequence[Value]], columns: Mapping[str, str]) -> None:
    for row in rows:
        cells = [
            format(cell, how) if how and cell is not None else str(cell or "-")
            for cell, how in zip(row, columns.values(), strict=True)
        ]
        print(" | ".join(cells), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS))
    parser.add_argument(
        "--out", type=Path, default=Path("results/read_tiles"), help="folder of the drawn slide"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--read-tiles", type=int, default=2048, help="tiles that are read (default: 2048)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of encoding a turn and part")
    parser.add_argument("--slides", type=int, default=32, help="small slides, for the start-up of one")
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="reading threads")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--quick", action="store_true", help="few tiles and one turn: does it run?")
    return parser


if __name__ == "__main__":
    main()
