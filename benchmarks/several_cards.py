"""How much faster two jobs of the step embed are than one: each takes a GPU of its own, or a core.

    OMP_NUM_THREADS=1 python benchmarks/several_cards.py --json several_cards.json     # two cores
    python benchmarks/several_cards.py --encoder vit_large_patch16_224 --edge-px 32768 --slides 8

The step's own command works through a queue of chunks (one drawn slide each, all tissue), first one job after
the other, then `--jobs` at once, as Snakemake runs them (`--resources gpu=2`), `--turns` times in turn.
The seconds hold all a job costs, its start included. A timm name gets random weights: speed does not ask.
The limit is the number of jobs; the goal on two GPUs is 1.9.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

import torch

from bench_record import bench_record, measured_table
from large_slide import draw_large_slide
from wsi_kd.core.files import publish_json, publish_text

COMMAND: Final = (sys.executable, "-c", "from wsi_kd.cli.app import main; main()")
GOAL: Final = 1.9


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("slides", 4), ("edge-px", 8192), ("jobs", 2), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", default="stain_texture", help="stain_texture, or a timm name")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = prepare(folder, chosen)
        seconds = take_turns(config, folder / "results" / "features", chosen)
    one, several = (median(seconds[jobs]) for jobs in (1, chosen.jobs))
    ratio = median(alone / together for alone, together in zip(*seconds.values(), strict=True))
    cards = torch.cuda.device_count()
    where = f"{cards} GPUs" if cards else f"CPU, {torch.get_num_threads()} thread(s) a job"
    print(f"{where}: 1 job {one:.1f} s, {chosen.jobs} jobs {several:.1f} s, ratio {ratio:.2f}")
    if chosen.json:
        columns = {
            "where": "",
            "jobs": ".0f",
            "seconds of one": ".1f",
            "seconds of all": ".1f",
            "ratio": ".2f",
        }
        table = measured_table(columns, [[where, chosen.jobs, one, several, ratio]])
        settings = {key: value for key, value in vars(chosen).items() if key != "json"}
        facts = {"goal": GOAL, "gpus": cards, "seconds": {str(key): value for key, value in seconds.items()}}
        publish_json(chosen.json, bench_record("several_cards", settings, tables={"jobs": table}, **facts))


def prepare(folder: Path, chosen: argparse.Namespace) -> Path:
    """Draw the slides, find tissue and tiles; return the configuration of the step embed."""
    names = [f"s{number}" for number in range(chosen.slides)]
    half = chosen.edge_px // 2
    for name in names:
        draw_large_slide(folder / f"{name}.svs", edge_px=chosen.edge_px, piece_px=half, levels=3)
    rows = [f"{name},{name}.svs,{'ab'[place % 2]}" for place, name in enumerate(names)]
    publish_text(folder / "slides.csv", "\n".join(["slide_id,path,label", *rows, ""]))
    embed: dict[str, object] = {"encoder": chosen.encoder}
    if chosen.encoder != "stain_texture":
        embed["weights"] = str(random_weights(folder / "weights.pt", chosen.encoder))
    run = {
        "manifest": str(folder / "slides.csv"),
        "results_dir": str(folder / "results"),
        "classes": ["a", "b"],
        "slides_per_job": 1,
    }
    config = folder / "config.yaml"
    publish_text(config, json.dumps({"run": run, "embed": embed}))
    for step in ("mask", "tile"):
        subprocess.run([*COMMAND, step, "--config", str(config)], check=True, stdout=subprocess.DEVNULL)
    return config


def random_weights(path: Path, encoder: str) -> Path:
    """Save the network as it is initialized."""
    import timm

    torch.save(timm.create_model(encoder, num_classes=0).state_dict(), path)
    return path


def take_turns(config: Path, features: Path, chosen: argparse.Namespace) -> dict[int, list[float]]:
    """Return the seconds of every turn, by how many jobs ran at once."""
    seconds: dict[int, list[float]] = {1: [], chosen.jobs: []}
    for _ in range(chosen.turns):
        for jobs, found in seconds.items():
            shutil.rmtree(features, ignore_errors=True)
            started = time.perf_counter()
            embed_all(config, range(chosen.slides), jobs=jobs)
            found.append(time.perf_counter() - started)
    return seconds


def embed_all(config: Path, chunks: Sequence[int], *, jobs: int) -> None:
    """Run a job a chunk, so many at once; whoever ends first gets the next chunk."""

    def embed(chunk: int) -> None:
        command = [*COMMAND, "embed", "--config", str(config), "--chunk", str(chunk)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(embed, chunks))


if __name__ == "__main__":
    main()
