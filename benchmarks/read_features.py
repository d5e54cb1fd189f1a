"""Seconds to read a slide's features: ours and other programs' files, against a plain read and against h5py.

    OMP_NUM_THREADS=2 python benchmarks/read_features.py --json read_features.json

Warm files, each way in turn, `--repeats` times. `plain read` is `np.fromfile` of the same float16 numbers and
bounds the first table; a disk bounds it lower. Ours holds every check: sha256 of all bytes, layout, no NaN.
`all slides` are `load_bags` of `--slides` files, which reads them with as many threads as there are cores.
The second table is of other programs' files, the third of a folder of `--slides` of them that is converted.
Memory is the process's peak: it must not grow with the slides.

`on_disk` compares bags left on disk (`train.features_in: disk`) with a plain read of as many bytes (the goal
is 1.2 times that) and with bags in memory, files in the system's cache: a bag, 512 tiles drawn from all of
them, the batches of an epoch alone, and an epoch of abmil with its steps. In processor time; a ratio is the
median over the turns.
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch

from bench_record import MeasuredTable, bench_record, measured_table
from train_step import started
from wsi_kd.bags.datasets import load_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.features.store import FeatureFile, read_features, write_features
from wsi_kd.features.stored_rows import bytes_of
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.convert import run_convert
from wsi_kd.training.loop import shuffled_batches
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.schedules import teacher_epoch

KIB = 1024
DRAWN_TILES = 512
HEADER = {"status": "ok", "slide_mpp": 0.5, "tile_px": 256, "tile_mpp": 0.5}


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("tiles", 15000), ("dimension", 1024), ("repeats", 7), ("slides", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = measure(Path(folder), chosen)
    for name, found in tables.items():
        print(name)
        for label, *cells in found["rows"]:
            print(f"  {label:48} " + " ".join("-" if cell is None else f"{cell:9.4g}" for cell in cells))
    if chosen.json:
        settings = {key: value for key, value in vars(chosen).items() if key != "json"}
        publish_json(chosen.json, bench_record("read_features", settings, tables=tables))


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, MeasuredTable]:
    """Draw the files and time them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(chosen.tiles, chosen.dimension)).astype(np.float32)
    side = int(np.ceil(np.sqrt(chosen.tiles)))
    index = np.arange(chosen.tiles)
    coords = np.column_stack([index % side, index // side]).astype(np.int64) * 512
    return {
        "ours": measure_ours(folder / "ours", features.astype(np.float16), coords, chosen=chosen),
        "on_disk": measure_on_disk(folder / "ours", chosen=chosen),
        **measure_others(folder, features, coords, chosen=chosen),
    }


def measure_ours(
    folder: Path, features: np.ndarray, coords: np.ndarray, *, chosen: argparse.Namespace
) -> MeasuredTable:
    """Compare our reader with a plain read of the same numbers."""
    folder.mkdir()
    labels = np.zeros(len(coords), np.int8)
    names = [f"s{number}" for number in range(chosen.slides)]
    for name in names:
        header = {**stamp("features", {}), **HEADER}
        write_features(folder / f"{name}.h5", FeatureFile(name, features, coords, labels, header))
        features.tofile(folder / f"{name}.bin")
    path, plain = folder / "s0.h5", folder / "s0.bin"
    content = path.read_bytes()
    rows = [SlideRow(name, Path(name), "a", name, "", None, None, "") for name in names]
    seconds = take_turns(
        {
            "plain read": lambda: np.fromfile(plain, features.dtype),
            "h5py": lambda: h5py_features(path),
            "sha256 alone, in memory": lambda: hashlib.sha256(content).digest(),
            "ours": lambda: read_features(path),
            "all slides, plain read": lambda: [np.fromfile(folder / f"{n}.bin", np.float16) for n in names],
            "all slides, ours": lambda: load_bags(folder, rows, ("a",)),
        },
        chosen.repeats,
    )
    bounds = {name: "all slides, plain read" if "all" in name else "plain read" for name in seconds}
    columns = {"way": "", "s": ".4f", "over the plain read": ".1f"}
    return measured_table(
        columns, [[name, found, found / seconds[bounds[name]]] for name, found in seconds.items()]
    )


def measure_on_disk(folder: Path, *, chosen: argparse.Namespace) -> MeasuredTable:
    """Compare bags that were checked and left on disk with a plain read and with bags in memory."""
    names = [f"s{number}" for number in range(chosen.slides)]
    rows = [SlideRow(n, Path(n), "ab"[i % 2], n, "", None, None, "") for i, n in enumerate(names)]
    memory, disk = (load_bags(folder, rows, ("a", "b"), on_disk=on_disk) for on_disk in (False, True))
    plain, parts = [folder / f"{name}.bin" for name in names], disk.features.parts
    bags = [slice(*memory.offsets[index : index + 2]) for index in range(len(names))]
    drawn = np.random.default_rng(0).permutation(len(memory.features))[:DRAWN_TILES]
    kept = np.empty((chosen.tiles, chosen.dimension), np.float16)
    settings = TrainSettings(device="cpu", token_budget=chosen.tiles)
    ledger = LossLedger(memory.slide_ids)
    with started(memory, settings) as in_memory:
        on_disk = in_memory._replace(train=disk)
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "bag after bag, np.fromfile": (
                lambda: [len(disk.features[bag]) for bag in bags],
                lambda: [len(np.fromfile(path, np.float16)) for path in plain],
            ),
            "bag after bag, readinto, both into memory that is kept": (
                lambda: [part.fill([(0, bytes_of(kept))]) for part in parts],
                lambda: [read_into(path, kept) for path in plain],
            ),
            f"{DRAWN_TILES} tiles of all bags, memory": (
                lambda: disk.features[drawn],
                lambda: memory.features[drawn],
            ),
            "batches of an epoch alone, memory": (
                lambda: [len(packed.labels) for _, packed in shuffled_batches(on_disk)],
                lambda: [len(packed.labels) for _, packed in shuffled_batches(in_memory)],
            ),
            "epoch of abmil, memory": (
                lambda: teacher_epoch(on_disk, ledger, mining=None),
                lambda: teacher_epoch(in_memory, ledger, mining=None),
            ),
        }
        table = [[label, *compared(ours, other, chosen.repeats)] for label, (ours, other) in pairs.items()]
    return measured_table({"from disk, over": "", "s": ".5f", "against s": ".5f", "ratio": ".2f"}, table)


def compared(ours: Callable[[], object], other: Callable[[], object], repeats: int) -> list[float]:
    """Return the median seconds of processor time of both, and the median ratio."""
    times = timed_in_turn({"ours": ours, "other": other}, repeats, clock=time.process_time)
    ratio = median(one / two for one, two in zip(*times.values(), strict=True))
    return [*(median(found) for found in times.values()), ratio]


def read_into(path: Path, kept: np.ndarray) -> None:
    """Fill an array with a file's bytes."""
    with path.open("rb", buffering=0) as handle:
        handle.readinto(bytes_of(kept))


def measure_others(
    folder: Path, features: np.ndarray, coords: np.ndarray, *, chosen: argparse.Namespace
) -> dict[str, MeasuredTable]:
    """Time other programs' layouts, and their conversion."""
    trident = draw(folder / "features_any" / "s0.h5", features, coords, rows=1)
    clam = draw(folder / "h5_files" / "s0.h5", features, coords, rows=32)
    tensor = folder / "pt_files" / "s0.pt"
    tensor.parent.mkdir()
    torch.save(torch.from_numpy(features), tensor)
    seconds = take_turns(
        {
            "TRIDENT's, h5py alone": lambda: h5py_features(trident),
            "TRIDENT's": lambda: read_foreign_features(trident),
            "CLAM's": lambda: read_foreign_features(clam),
            "CLAM's .pt": lambda: read_foreign_features(tensor),
        },
        chosen.repeats,
    )
    for number in range(1, chosen.slides):
        draw(trident.with_name(f"s{number}.h5"), features, coords, rows=1)
    converted: list[list[str | int | float | None]] = [["peak memory before, MiB", peak_mib()]]
    for label in ("convert, s a slide", "convert again, s a slide"):
        began = time.perf_counter()
        run_convert(AdoptSettings(folder=trident.parent), folder / "converted", to="wsi_kd")
        converted.append([label, (time.perf_counter() - began) / chosen.slides])
    converted += [
        ["peak memory after, MiB", peak_mib()],
        ["one slide's features, MiB", features.nbytes / KIB**2],
    ]
    return {
        "others": measured_table({"file": "", "s": ".4f"}, [list(row) for row in seconds.items()]),
        "convert": measured_table({"what": "", "figure": ".3g"}, converted),
    }


def draw(path: Path, features: np.ndarray, coords: np.ndarray, *, rows: int) -> Path:
    """Write a slide with `rows` rows a chunk, as TRIDENT (1) and CLAM (32) do."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in (("features", features), ("coords", coords)):
            file.create_dataset(
                name, data=values, chunks=(rows, values.shape[1]), maxshape=(None, values.shape[1])
            )
    return path


def h5py_features(path: Path) -> None:
    """Read both arrays by h5py, nothing checked."""
    with h5py.File(path, "r") as file:
        file["features"][:]
        file["coords"][:]


def take_turns(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each way."""
    return {name: median(found) for name, found in timed_in_turn(ways, repeats).items()}


def timed_in_turn(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each way's calls, after one call of each that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, read in ways.items():
            began = clock()
            read()
            if turn:
                times[name].append(clock() - began)
    return times


def peak_mib() -> float:
    """Return the process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB


if __name__ == "__main__":
    main()
