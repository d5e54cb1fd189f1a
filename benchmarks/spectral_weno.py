"""How many hidden units a MIL model needs: gates on its projector, cut at the knee, beside other narrow ones.

CRC nuclei (60 patients, tile truth), MobileNetV2's features. Each narrow model is compared with one of the
same width that was trained so from random weights, and with the best neurons of a wide one without gates.
Rows "taught" learn from the wide model (recipe distill), the others from labels (recipe weno). Width, epochs
and thresholds are chosen on validation slides; scores are of test slides.

    python benchmarks/crc_nuclei.py --data ../shared/data
    snakemake -c2 --configfile configs/crc_nuclei.yaml --until split
    OMP_NUM_THREADS=1 python benchmarks/spectral_weno.py

Every fold's and seed's results are kept in --out; a killed run goes on from there.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Final, NamedTuple

import torch

from crc_models import CLASSES, crc_parser, read_folds, score, settings_of
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json, publish_text, read_json
from wsi_kd.kd.spectral_pruning import find_knee
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.steps.train import Job, train_recipe
from wsi_kd.training.checkpoint import LoadedModel
from wsi_kd.training.pruning import Pooling, count_active, narrow_model, validation_curve

WIDE: Final = {"hidden_dim": 256, "attention_dim": 64}
GATES: Final = {"layer": "projector", "penalty": 0.01}
WEAKER: Final = {"layer": "projector", "penalty": 0.003}
KNEE: Final = 0.05
FIXED: Final = 8
"""A width at which all are compared besides."""
POOLING: Final = Pooling("topk", 5)
TILES: Final = 1_000
REPEATS: Final = 15
FIGURES: Final = ("hidden units", "bag AUC", "instance AUC", "parameters", "CPU ms per 1,000 tiles")
PAIRS: Final = (
    ("gated, all neurons", "wide"),
    ("gated, cut", "gated, all neurons"),
    ("gated, cut", "wide"),
    ("wide, cut", "wide"),
    ("gated, cut", "wide, cut"),
    ("wide, best of the same number", "wide"),
    ("gated, cut", "wide, best of the same number"),
    ("gated more weakly, cut", "wide, best of the same number"),
    ("gated, cut", "narrow from the start"),
    (f"gated, best {FIXED}", f"wide, best {FIXED}"),
    (f"gated, best {FIXED}", f"{FIXED} from the start"),
    ("gated and taught, cut", "narrow from the start, taught"),
    ("gated and taught, cut", "wide"),
    (f"gated and taught, best {FIXED}", f"{FIXED} from the start, taught"),
)
"""Rows that are compared run by run."""
CUT: Final = ("wide, cut", "gated, cut", "gated more weakly, cut", "gated and taught, cut")
"""Rows whose width the curve chose."""


class Data(NamedTuple):
    """One fold and seed."""

    bags: dict[str, BagSet]
    fold: int
    seed: int


class Cuts(NamedTuple):
    """A model cut at its knee and at `FIXED` neurons, and what its curve says."""

    knee: int
    at_knee: TeacherStudent
    at_fixed: TeacherStudent
    active: int


def main() -> None:
    """Measure, print the tables and keep the figures."""
    chosen = crc_parser(__doc__, out="results/spectral_weno", seeds=2).parse_args()
    torch.set_num_threads(1)
    runs: list[dict[str, dict[str, float]]] = []
    for number, bags in enumerate(read_folds(chosen.run, chosen.manifest)):
        runs += [kept_or_measured(Data(bags, number, seed), chosen.out) for seed in range(chosen.seeds)]
    text = tables(runs)
    publish_json(chosen.out / "metrics.json", {"runs": runs})
    publish_text(chosen.out / "table.md", text)
    sys.stdout.write(text)


def kept_or_measured(data: Data, out: Path) -> dict[str, dict[str, float]]:
    """Return the figures of a fold and seed, from an earlier run where that left them."""
    path = out / f"fold{data.fold}-seed{data.seed}.json"
    if path.is_file():
        return dict(read_json(path, remake="delete it")["rows"])
    began = time.perf_counter()
    rows = measure(data)
    publish_json(path, {"rows": rows})
    sys.stderr.write(f"fold {data.fold} seed {data.seed}: {time.perf_counter() - began:.0f} s\n")
    return rows


def measure(data: Data) -> dict[str, dict[str, float]]:
    """Train what the rows name and score it on the test slides."""
    wide = train(data, WIDE)
    open_gates = train(data, {**WIDE, "spectral": GATES})
    gated = cuts(open_gates, data)
    weaker = cuts(train(data, {**WIDE, "spectral": WEAKER}), data)
    plain = cuts(wide, data)
    large = LoadedModel(wide, {})
    taught = cuts(train(data, {"distill": small(256), "spectral": GATES}, large=large), data)
    models = {
        "wide": wide,
        "wide, cut": plain.at_knee,
        "gated, all neurons": open_gates,
        "gated, cut": gated.at_knee,
        "gated more weakly, cut": weaker.at_knee,
        "wide, best of the same number": narrowed(wide, gated.knee),
        "narrow from the start": train(data, {**WIDE, "hidden_dim": gated.knee}),
        f"gated, best {FIXED}": gated.at_fixed,
        f"wide, best {FIXED}": plain.at_fixed,
        f"{FIXED} from the start": train(data, {**WIDE, "hidden_dim": FIXED}),
        "gated and taught, cut": taught.at_knee,
        "narrow from the start, taught": train(data, {"distill": small(taught.knee)}, large=large),
        f"gated and taught, best {FIXED}": taught.at_fixed,
        f"{FIXED} from the start, taught": train(data, {"distill": small(FIXED)}, large=large),
    }
    rows = {name: figures(model, data.bags["test"]) for name, model in models.items()}
    for name, one in zip(CUT, (plain, gated, weaker, taught), strict=True):
        rows[name]["active"] = one.active
    return rows


def small(width: int) -> dict[str, Any]:
    """Return section train.distill of a model of the wide one's kind."""
    return {"hidden_dim": width, "attention_dim": WIDE["attention_dim"], "teacher": "gated_abmil"}


def train(data: Data, settings: Mapping[str, Any], *, large: LoadedModel | None = None) -> TeacherStudent:
    """Train weno on labels, or a model taught by `large`."""
    recipe = "weno" if large is None else "distill"
    job = Job(recipe, data.seed, data.fold, CLASSES, settings_of(**settings), large)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_recipe(
            job, data.bags["train"], data.bags["val"], work_dir=Path(folder), on_epoch=lambda row: None
        )
        return trained.model


def cuts(model: TeacherStudent, data: Data) -> Cuts:
    """Cut a model trained with gates where validation says, and at a fixed width."""
    curve = validation_curve(model, data.bags["val"], layer="projector", pooling=POOLING)
    knee = find_knee(curve, tolerance=KNEE)
    active = count_active(model, "projector", threshold=0.05)
    return Cuts(knee, narrowed(model, knee), narrowed(model, FIXED), active)


def narrowed(model: TeacherStudent, keep: int) -> TeacherStudent:
    """Return the model with its best neurons."""
    described = {
        "teacher": "gated_abmil",
        "feature_dim": model.scaling.mean.numel(),
        "classes": len(CLASSES),
        "hidden_dim": keep,
        "attention_dim": WIDE["attention_dim"],
        "dropout": 0.25,
        "student_hidden_dim": 0,
        "with_student": True,
    }
    return narrow_model(model, described, layer="projector", keep=keep).model


def figures(model: TeacherStudent, test: BagSet) -> dict[str, float]:
    """Return a row's figures, those of `FIGURES`."""
    scores, (width, parameters) = score(model, test), figures_of_shape(model)
    found = (width, scores["bag AUC"], scores["instance AUC"], parameters, latency_ms(model))
    return dict(zip(FIGURES, found, strict=True))


def figures_of_shape(model: TeacherStudent) -> tuple[float, float]:
    """Return the projector's width and the number of trained parameters."""
    width = model.get_parameter("projector.weight").shape[0]
    return float(width), float(sum(value.numel() for value in model.parameters()))


@torch.inference_mode()
def latency_ms(model: TeacherStudent) -> float:
    """Return the median processor time of a slide of `TILES` tiles, on one thread."""
    features = torch.randn(TILES, model.scaling.mean.numel(), generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, TILES])
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        model.eval()(features, offsets)
        times.append(1e3 * (time.process_time() - began))
    return median(times)


def tables(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Return mean and standard deviation over folds and seeds, and differences run by run."""
    names = list(runs[0])
    lines = [f"| model | {' | '.join(FIGURES)} |", f"|---|{'---|' * len(FIGURES)}"]
    for name in names:
        cells = [_cell([run[name][figure] for run in runs], figure) for figure in FIGURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| difference | bag AUC | instance AUC | runs with more instance AUC |",
        "|---|---|---|---|",
    ]
    for first, second in PAIRS:
        apart = {
            figure: [run[first][figure] - run[second][figure] for run in runs] for figure in FIGURES[1:3]
        }
        better = sum(value > 0 for value in apart[FIGURES[2]])
        cells = [f"{fmean(values):+.3f} ± {_spread(values):.3f}" for values in apart.values()]
        lines.append(f"| {first} less {second} | {' | '.join(cells)} | {better} of {len(runs)} |")
    for name in CUT:
        kept = ", ".join(f"{run[name]['active']:.0f} / {run[name][FIGURES[0]]:.0f}" for run in runs)
        lines += ["", f"{name}: active neurons of 256 / kept, run by run: {kept}"]
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], figure: str) -> str:
    if figure in ("hidden units", "parameters"):
        return f"{fmean(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
    digits = 3 if "AUC" in figure else 1
    return f"{fmean(values):.{digits}f} ± {_spread(values):.{digits}f}"


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
