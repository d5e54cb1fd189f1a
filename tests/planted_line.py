"""The whole line on planted slides, in this process: what it wrote, and what it said."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import yaml
from planted_distillations import keep_for_the_next, plant_inputs, write_distillations
from planted_slides import Planted, plant
from viewed_runs import open_viewer

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.cli.app import run
from wsi_kd.steps.viewed_run import view_run

SETTINGS = {
    "run": {"manifest": "slides.csv", "results_dir": "out", "slides_per_job": 5, "max_failed_slides": 3},
    "tile": {"tile_px": 64, "tile_mpp": 1.0},
    "train": {"recipes": ["weno"], "epochs": 1, "hidden_dim": 8, "attention_dim": 4, "device": "cpu"},
    "evaluate": {"bootstrap_samples": 100},
    "report": {"gallery_slides": 2, "heatmap_px": 200},
}
MODEL = ("--recipe", "weno", "--seed", "0", "--fold", "0")
LINE = (
    *(("mask", "--chunk", chunk) for chunk in "01"),
    *(("tile", "--chunk", chunk) for chunk in "01"),
    *(("embed", "--chunk", chunk) for chunk in "01"),
    *(("qc",), ("split",), ("train", *MODEL), ("predict", *MODEL), ("evaluate",), ("report",)),
)


class Line(NamedTuple):
    """A folder in which everything was run, and every text that came of it, by command."""

    folder: Path
    planted: list[Planted]
    said: dict[str, str]


def write_cohort(folder: Path) -> list[Planted]:
    """Plant the slides, write manifest and settings."""
    planted = plant(folder / "cohort")
    columns = ("slide_id", "path", "label", "case_id", "split")
    rows = [(one.slide_id, one.path.relative_to(folder), *one[2:]) for one in planted]
    with (folder / "slides.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([columns, *rows])
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    return planted


def run_line(folder: Path) -> Line:
    """Run every command in `folder`, which becomes the working folder meanwhile."""
    line = Line(folder, write_cohort(folder), {})
    with contextlib.chdir(folder):
        for command in LINE:
            _run(line, *command, "--config", "my.yaml")
        scored = line.planted[4].path.relative_to(folder)
        (folder / "infer.csv").write_text(f"slide_id,path\nS4,{scored}\nS6,{line.planted[6].path}\n")
        model = "out/models/weno/seed0/fold0"
        _run(line, "infer", "infer.csv", "--model", model, "--out", "answers", "--max-failed", "1")
        _run(line, "heatmap", "out", "S5", "--manifest", "slides.csv", "--tiff")
        _run(line, "view", "out", "--manifest", "slides.csv", "--static", "page", "--slide-id", "S5")
        _run(line, "features", "convert", "out/features", "trident", "--to", "trident")
        _run(line, "info", "slides.csv", "--json", code=1)
        _run(line, "info", "slides.csv", code=1)
        _answer(line)
        _distill(line)
    return line


def _distill(line: Line) -> None:
    """Teach small networks and encoders from features, weights and pixels of a planted folder."""
    plant_inputs(line.folder, SETTINGS)
    for chunk in "01":
        _run(line, "embed", "--chunk", chunk, "--config", "pixels.yaml")
    for config, out in write_distillations(line.folder).items():
        _run(line, "distill", "--config", config, "--out", str(out))
        keep_for_the_next(line.folder, out)


def _run(line: Line, *arguments: str, code: int = 0) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        ended = run(list(arguments))
    text = out.getvalue()
    assert ended == code, f"{arguments}: {ended}: {text}"
    line.said[" ".join(arguments)] = text


def _answer(line: Line) -> None:
    """Ask the viewer for everything it has an address for, of every slide."""
    sheet = read_rows(line.folder / "slides.csv", slides_dir=None)
    client = open_viewer(view_run(line.folder / "out", sheet=sheet, title="a run"))
    addresses = ["/", "/api/run", "/api/slides", "/report/index.html"]
    for index in range(len(line.planted)):
        one = f"/api/slides/{index}"
        addresses += [one, f"{one}/annotations", f"{one}/scores?model=weno/seed0/fold0"]
        addresses += [f"{one}/associated/{name}.jpg" for name in ("label", "macro", "thumbnail")]
        addresses += [f"/dzi/{index}/8/0_0.jpg"]
    folder = line.folder / "answered"
    folder.mkdir()
    with client:
        for number, address in enumerate(addresses):
            answer = client.get(address)
            is_picture = answer.headers["content-type"] == "image/jpeg"
            (folder / f"{number:03d}{'.jpg' if is_picture else '.txt'}").write_bytes(answer.content)
            line.said[f"viewer {address}"] = json.dumps(dict(answer.headers)) + answer.text * (not is_picture)
