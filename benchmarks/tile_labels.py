"""Cautious pseudo labels on slides: from a few annotated tiles, and from the student of a trained WENO.

    python benchmarks/tile_labels.py

Needs features and splits of the runs of configs/demo.yaml and configs/crc_nuclei.yaml (`snakemake`). Writes
<out>/<cohort>/table.md and metrics.json.

Annotated tiles: of the slides that hold tiles of both labels a third (by patient) is held out, whose tiles'
truth chooses penalty and round. On the others 1, 5 or 20 tiles are annotated; their other tiles get pseudo
labels and are scored. The graph joins tiles that touch; nuclei of a mosaic stand in the order of their class,
so that their neighbors would tell it: there each tile is joined with its nearest ones by features.

WENO: the tiles of positive training slides are labeled by its student, those of the others are negative. A
classifier trained anew on all, or on the chosen ones, is measured on the test slides.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from tile_graphs import (
    Tiles,
    components,
    equal_edges,
    fit,
    fold_count,
    measured_on,
    mixed_tiles,
    read_run,
    view,
    wrong_share,
)
from weno_labels import weno_rows
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.splits import draw_folds
from wsi_kd.core.errors import WsiKdError
from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.core.provenance import stamp
from wsi_kd.kd.cautious_pseudo_labels import PUBLISHED, UNLABELED, Caution, label_cautiously

COHORTS: Final = {"demo": Path("configs/demo.yaml"), "crc": Path("configs/crc_nuclei.yaml")}
MOSAICS: Final = ("crc",)
"""Cohorts whose grid is no tissue: a tile's neighbors are those of its features."""
ANNOTATED: Final = (1, 5, 20)
MODELS: Final = ("logistic", "mlp", "gcn")
WAYS: Final = ("alone", "all at once", "half at once", "published", "cautious", "cautious, shares known")
"""The last one's quotas are the held-out slides' shares."""
DECAYS: Final = (0.001, 0.01, 0.1, 1.0)
ROUNDS: Final = 4
VIEWS: Final = 5

Row: TypeAlias = dict[str, Any]


class Fitted(NamedTuple):
    """A classifier trained on the annotated tiles alone."""

    name: str
    decay: float
    seed: int
    network: nn.Module


def annotate(tiles: Tiles, slides: Sequence[int], count: int, *, generator: torch.Generator) -> Tensor:
    """Return (tiles,) labels of `count` tiles of each of these slides, -1 elsewhere.

    Half of them are positive (of an odd number one more in every second slide), but of neither label more
    than half of what the slide has.
    """
    labels = torch.full_like(tiles.truth, UNLABELED)
    for place, slide in enumerate(slides):
        rows = [((tiles.slide == slide) & (tiles.truth == label)).nonzero()[:, 0] for label in (0, 1)]
        positive = min((count + (place + 1) % 2) // 2, len(rows[1]) // 2)
        for label, wanted in ((1, positive), (0, min(count - positive, len(rows[0]) // 2))):
            drawn = rows[label][torch.randperm(len(rows[label]), generator=generator)[:wanted]]
            labels[drawn] = label
    return labels


def annotated_rows(tiles: Tiles, slides: Sequence[SlideRow], *, count: int, seed: int) -> list[Row]:
    """Measure every model and way with `count` annotated tiles a slide."""
    held_out = set(draw_folds(slides, folds=3, seed=seed)[0].val)
    chosen = [index for index, row in enumerate(slides) if row.slide_id not in held_out]
    labels = annotate(tiles, chosen, count, generator=torch.Generator().manual_seed(seed))
    scored = torch.isin(tiles.slide, torch.tensor(chosen)) & (labels == UNLABELED)
    val = ~torch.isin(tiles.slide, torch.tensor(chosen))
    rows = []
    for name in MODELS:
        fits = {decay: fit(name, tiles, labels, decay=decay, seed=seed) for decay in DECAYS}
        on_val = {decay: measured_on(one, tiles, val)["accuracy"] for decay, one in fits.items()}
        decay = max(on_val, key=lambda one: on_val[one])
        fitted = Fitted(name, decay, seed, fits[decay])
        for way in WAYS:
            found = _spread_labels(way, tiles, labels, scored=scored, val=val, fitted=fitted)
            rows.append({"model": name, "way": way, "tiles": count, "seed": seed, **found})
    return rows


def _spread_labels(
    way: str, tiles: Tiles, labels: Tensor, *, scored: Tensor, val: Tensor, fitted: Fitted
) -> dict[str, float]:
    """Label the scored tiles in one way, and measure the chosen and the last round on them."""
    per_round = int(scored.sum()) // (2 * ROUNDS)
    cautions = {
        "alone": Caution(per_round),
        "all at once": Caution(len(labels), per_class=False),
        "half at once": Caution(ROUNDS * per_round, per_class=False),
        "published": PUBLISHED._replace(per_round=per_round),
        "cautious": Caution(per_round),
        "cautious, shares known": Caution(per_round, class_shares=_shares(tiles.truth[val])),
    }
    last: list[tuple[Tensor, nn.Module]] = []

    def train(current: Tensor, start: nn.Module | None) -> nn.Module:
        network = fitted.network
        if last:
            network = fit(fitted.name, tiles, current, decay=fitted.decay, seed=fitted.seed, start=start)
        last.append((current.clone(), network))
        return network

    several = way not in ("alone", "all at once", "half at once")
    found = label_cautiously(
        train,
        [partial(view, tiles=tiles, number=number) for number in range(VIEWS if several else 1)],
        labels,
        candidates=scored,
        caution=cautions[way],
        rounds=ROUNDS if several else int(way != "alone"),
        validate=lambda model: measured_on(model, tiles, val)["accuracy"],
    )
    given = torch.where(scored, last[-1][0], UNLABELED)
    wrong = {} if way == "alone" else {"wrong": wrong_share(given, tiles.truth, slide=tiles.slide)}
    ended = measured_on(last[-1][1], tiles, scored)
    return {**measured_on(found.model, tiles, scored), **wrong, "last_accuracy": ended["accuracy"]}


def _shares(truth: Tensor) -> tuple[float, float]:
    positive = float(truth.double().mean())
    return 1.0 - positive, positive


def gains(rows: Sequence[Row], *, over: str, key: Sequence[str]) -> list[Row]:
    """Add to each row what it has more than the row of the way `over` with the same `key`."""
    base = {tuple(row[name] for name in key): row for row in rows if row["way"] == over}
    return [
        {
            **row,
            **{
                f"{name}_gain": row[name] - base[tuple(row[one] for one in key)][name]
                for name in ("accuracy", "auc", "last_accuracy")
                if name in row
            },
        }
        for row in rows
    ]


def table(rows: Sequence[Row], *, first: Sequence[str], values: Sequence[str], split: str = "") -> str:
    """Format mean ± sd over the rows of each line, a line for each combination of `first`.

    With `split` every value has one column for each of its values.
    """
    parts = list(dict.fromkeys(row.get(split) for row in rows))
    heads = [f"{name}, {part}" if split else name for name in values for part in parts]
    lines = [f"| {' | '.join([*first, *heads])} |", "|" + "---|" * (len(first) + len(heads))]
    for key in dict.fromkeys(tuple(row[name] for name in first) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in first) == key]
        cells = [
            spread([row[name] for row in own if row.get(split) == part and name in row])
            for name in values
            for part in parts
        ]
        lines.append(f"| {' | '.join([*map(str, key), *cells])} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Format mean +- sd; empty without values.

    >>> spread([0.5, 0.7]), spread([0.25]), spread([])
    ('.600 ± .141', '.250', '')
    """
    if not values:
        return ""
    told = [f"{fmean(values):.3f}"] + ([f"{stdev(values):.3f}"] if len(values) > 1 else [])
    return " ± ".join(one.replace("0.", ".", 1) for one in told)


def measure_cohort(name: str, *, seeds: int) -> dict[str, list[Row]]:
    """Measure both uses on one cohort."""
    run = read_run(COHORTS[name])
    values = components(run.bags.features)
    tiles, slides = mixed_tiles(run, values, mosaic=name in MOSAICS)
    annotated = [
        row
        for count in ANNOTATED
        for seed in range(seeds)
        for row in annotated_rows(tiles, slides, count=count, seed=seed)
    ]
    cleaned = [
        row for seed in range(seeds) for row in weno_rows(run, values, seed=seed, fold=seed % fold_count(run))
    ]
    grid = mixed_tiles(run, values, mosaic=False)[0]
    return {
        "graphs": [
            {"edges": "of the grid", **equal_edges(grid)},
            {"edges": "that are used", **equal_edges(tiles)},
        ],
        "annotated": gains(annotated, over="alone", key=("model", "tiles", "seed")),
        "weno": gains(cleaned, over="all", key=("seed", "fold")),
    }


def tables(name: str, found: Mapping[str, Sequence[Row]]) -> str:
    """Format all that was measured of a cohort as Markdown."""
    edges = table(found["graphs"], first=("edges",), values=("per_tile", "equal", "by_chance"))
    reached, gained = (
        table(found["annotated"], first=("model", "way"), values=values, split="tiles")
        for values in (
            ("accuracy", "auc", "wrong"),
            ("accuracy_gain", "last_accuracy_gain", "auc_gain"),
        )
    )
    kinds = ("kept", "wrong", "accuracy", "auc", "accuracy_gain", "auc_gain")
    weno = table(found["weno"], first=("way",), values=kinds)
    return f"""## {name}

Edges that join equal labels:

{edges}
Annotated tiles a slide; balanced accuracy, AUC, wrong pseudo labels:

{reached}
{gained}
Labels of WENO's student:

{weno}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the cohorts that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", nargs="+", choices=sorted(COHORTS), default=list(COHORTS))
    parser.add_argument("--seeds", type=int, default=3, help="each draws tiles and trains WENO")
    parser.add_argument("--out", type=Path, default=Path("results/tile_labels"))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in chosen.cohorts:
        started = time.process_time()
        try:
            measured = measure_cohort(name, seeds=chosen.seeds)
            text = tables(name, measured)
            made_with = {"cohort": name, "seeds": chosen.seeds}
            publish_json(chosen.out / name / "metrics.json", {**stamp("tile_labels", made_with), **measured})
            publish_text(chosen.out / name / "table.md", text)
        except WsiKdError as error:
            sys.stderr.write(f"error: {error}\n")
            return int(error.exit_code)
        sys.stdout.write(text)
        sys.stderr.write(f"{name}: {time.process_time() - started:.0f} s of one core\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
