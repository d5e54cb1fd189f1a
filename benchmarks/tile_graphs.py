"""Tiles of a finished run as graphs, and small classifiers of tiles, for tile_labels and weno_labels."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import SlideRow, read_manifest
from wsi_kd.core.files import read_table
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.evaluation.instance_measures import within_bags
from wsi_kd.kd.cautious_pseudo_labels import UNLABELED
from wsi_kd.kd.graphs import Gcn, drop_edges, grid_edges, propagation
from wsi_kd.settings.all import Settings, read_settings

WIDTH: Final = 64
"""Principal components that stand for a tile's features."""
HIDDEN: Final = 32
ITERATIONS: Final = 30
NEAREST: Final = 4
DROPPED: Final = 0.1
"""Share of features or edges that a view drops."""


class Run(NamedTuple):
    """A finished run of the workflow."""

    bags: BagSet
    rows: list[SlideRow]
    splits: list[dict[str, str]]
    settings: Settings


class Tiles(NamedTuple):
    """Tiles of slides, one after another, with their graph."""

    features: Tensor
    """(tiles, WIDTH) float32."""
    edges: Tensor
    """(2, edges) int64, never between slides."""
    truth: Tensor
    """(tiles,) int64."""
    slide: Tensor
    """(tiles,) int64: which slide each is of."""


def read_run(path: Path) -> Run:
    """Read the features of the slides that take part in the run of a settings file, and its splits.

    Raises:
        BadInput: a run without features or splits.
    """
    settings = read_settings(path)
    run = settings.run
    splits = read_table(run.results_dir / "splits.csv", remake=f"snakemake --configfile {path}")
    used = {row["slide_id"] for row in splits if row["fold_0"] != "excluded"}
    manifest = read_manifest(run.manifest, slides_dir=run.slides_dir, classes=run.classes)
    rows = [row for row in manifest.rows if row.slide_id in used]
    return Run(load_bags(run.results_dir / "features", rows, manifest.classes), rows, splits, settings)


def fold_count(run: Run) -> int:
    """Return how many folds the run has."""
    return sum(name.startswith("fold_") for name in run.splits[0])


def components(features: FeatureArray, width: int = WIDTH) -> Tensor:
    """Return the first principal components of standardized features, scaled to a mean square of 1."""
    values = torch.from_numpy(features.astype(np.float32))
    values = (values - values.mean(dim=0)) / values.std(dim=0).clamp_min(1e-6)
    _, axes = torch.linalg.eigh(values.T @ values)
    turned: Tensor = values @ axes[:, -width:]
    return turned.div(turned.square().mean().sqrt())


def nearest_edges(features: Tensor, count: int) -> Tensor:
    """Join each tile with its `count` nearest by cosine; (2, edges), each pair once."""
    unit = F.normalize(features, dim=1)
    near = (unit @ unit.T).fill_diagonal_(-2.0).topk(min(count, len(unit) - 1), dim=1).indices
    pairs = torch.stack([torch.arange(len(unit)).repeat_interleave(near.shape[1]), near.flatten()])
    joined: Tensor = torch.unique(pairs.sort(dim=0).values, dim=1)
    return joined


def mixed_tiles(run: Run, values: Tensor, *, mosaic: bool) -> tuple[Tiles, list[SlideRow]]:
    """Return the tiles of all slides that hold both labels, and these slides; `values` are all tiles'."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    edges: list[Tensor] = []
    rows: list[SlideRow] = []
    for row, start, end in zip(run.rows, run.bags.offsets[:-1], run.bags.offsets[1:], strict=True):
        truth = torch.from_numpy(run.bags.tile_labels[start:end].astype(np.int64))
        if sorted(set(truth.tolist())) != [0, 1]:
            continue
        coords = run.bags.coords[start:end]
        step = min(int(np.diff(np.unique(axis)).min(initial=2**31)) for axis in coords.T)
        own = nearest_edges(values[start:end], NEAREST) if mosaic else grid_edges(torch.tensor(coords), step)
        edges.append(own + sum(len(found) for _, found, _ in parts))
        parts.append((values[start:end], truth, torch.full((len(truth),), len(rows))))
        rows.append(row)
    features, truths, slides = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Tiles(features, torch.cat(edges, dim=1), truths, slides), rows


def fit(
    name: str, tiles: Tiles, labels: Tensor, *, decay: float, seed: int, start: nn.Module | None = None
) -> nn.Module:
    """Train a classifier on the labeled tiles, both labels weighing the same.

    L-BFGS of all at once; decay / 2 |weights|^2 is added to the loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: dict[str, Callable[[], nn.Module]] = {
            "logistic": lambda: nn.Linear(WIDTH, 2),
            "mlp": lambda: nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)),
            "gcn": lambda: Gcn(WIDTH, HIDDEN, 2),
        }
        network = made[name]() if start is None else deepcopy(start)
    known = labels != UNLABELED
    targets = labels[known]
    weight = len(targets) / (2.0 * torch.bincount(targets, minlength=2).clamp_min(1))
    spread = propagation(tiles.edges, len(labels)) if name == "gcn" else None
    inputs = tiles.features if name == "gcn" else tiles.features[known]
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = network(inputs) if spread is None else network(inputs, spread)[known]
        weights = [value for value in network.parameters() if value.ndim > 1]
        penalty = decay / 2.0 * sum(value.square().sum() for value in weights)
        value = F.cross_entropy(logits, targets, weight=weight) + penalty
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch's
    return network


@torch.no_grad()
def view(network: nn.Module, *, tiles: Tiles, number: int) -> Tensor:
    """Return (tiles, 2) logits: of all (number 0), or with a share of features or of edges dropped."""
    generator = torch.Generator().manual_seed(number)
    by_edges = isinstance(network, Gcn) and number % 2 == 1
    edges = drop_edges(tiles.edges, DROPPED, generator=generator) if by_edges else tiles.edges
    features = tiles.features
    if number and not by_edges:
        features = features * (torch.rand(features.shape, generator=generator) >= DROPPED) / (1.0 - DROPPED)
    if isinstance(network, Gcn):
        return network(features, propagation(edges, len(features)))  # type: ignore[no-any-return]  # as below
    return network(features)  # type: ignore[no-any-return]  # torch's call is untyped


def measure(log_odds: Tensor, truth: Tensor, *, slide: Tensor) -> dict[str, float]:
    """Balanced accuracy at log-odds 0 and AUC, in each slide that has both labels; means over these."""
    scores, labels, of = log_odds.double().numpy(), truth.numpy() == 1, slide.numpy()
    within = within_bags(labels, scores, bag=of)
    right = (scores > 0) == labels
    recalls = [[right[(of == bag) & (labels == label)].mean() for label in (0, 1)] for bag in within.bags]
    return {"accuracy": float(np.mean(recalls)), "auc": float(within.roc_auc.mean())}


def wrong_share(labels: Tensor, truth: Tensor, *, slide: Tensor) -> float:
    """Share of wrong labels among those given (not -1), in each slide that has any; mean over these."""
    wrong = labels != truth
    given = labels != UNLABELED
    return fmean(float(wrong[given & (slide == one)].double().mean()) for one in set(slide[given].tolist()))


def measured_on(network: nn.Module, tiles: Tiles, rows: Tensor) -> dict[str, float]:
    """Measure a classifier on some of the tiles."""
    logits = view(network, tiles=tiles, number=0)
    return measure((logits[:, 1] - logits[:, 0])[rows], tiles.truth[rows], slide=tiles.slide[rows])


def equal_edges(tiles: Tiles) -> dict[str, float]:
    """Share of edges that join tiles of one label, and what it is if each slide's labels are dealt anew."""
    positive = torch.bincount(tiles.slide, weights=tiles.truth.double())
    count = torch.bincount(tiles.slide).double()
    others = (count - positive) * (count - positive - 1.0) + positive * (positive - 1.0)
    chance = (others / (count * (count - 1.0)))[tiles.slide[tiles.edges[0]]]
    equal = (tiles.truth[tiles.edges[0]] == tiles.truth[tiles.edges[1]]).double()
    per_tile = 2.0 * tiles.edges.shape[1] / len(tiles.truth)
    return {"per_tile": per_tile, "equal": float(equal.mean()), "by_chance": float(chance.mean())}
