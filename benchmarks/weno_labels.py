"""Pseudo labels from WENO's student, all or cleaned, and the classifiers trained on them.

Tiles of positive training slides are labeled, those of negative ones are negative. The student's odds are
shifted by the weights of its loss; its labels are read at the logit that NORMAL_SHARE of the tiles of
negative training slides stay below.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiment_scores import Pooling, pool_bags, score_model
from tile_graphs import DROPPED, Run, Tiles, fit, measure, view, wrong_share
from wsi_kd.bags.datasets import BagSet
from wsi_kd.evaluation.classification import roc_auc
from wsi_kd.kd.cautious_pseudo_labels import UNLABELED, Caution, label_cautiously, select_cautiously
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.steps.train import Job, train_recipe

CLEANED: Final = (
    "student itself",
    "all",
    "half at once",
    "half, quotas and views",
    "half, in rounds",
    "eighth at once",
    "eighth, quotas and views",
    "in rounds, chosen",
)
"""The last one's round is chosen by the bag AUC of the validation slides."""
NORMAL_SHARE: Final = 0.9
ROUNDS: Final = 4
VIEWS: Final = 5
DECAY: Final = 0.03
TOP_K: Final = 5


class Labels(NamedTuple):
    """What a student says, and where it may be used."""

    tiles: Tiles
    """All tiles of the run; their truth only measures."""
    known: Tensor
    """(tiles,) 0 for tiles of negative training slides, -1 elsewhere."""
    student: Tensor
    """(views, tiles) logits."""
    candidates: Tensor
    """(tiles,) bool: those of positive training slides."""


class Cleaned(NamedTuple):
    """What a way came to."""

    labels: Tensor
    """(tiles,) known and kept ones."""
    network: nn.Module | None
    """Trained on them; None: the student itself."""


def weno_rows(run: Run, values: Tensor, *, seed: int, fold: int) -> list[dict[str, Any]]:
    """Train WENO, and classifiers on what its student labels; measure all on the fold's test slides."""
    parts = {row["slide_id"]: row[f"fold_{fold}"] for row in run.splits}
    part_of = np.array([parts[slide_id] for slide_id in run.bags.slide_ids])
    model = _trained(run, part_of, seed=seed, fold=fold)
    labels = read_labels(model, run.bags, values, train=part_of == "train")
    tiles, candidates = labels.tiles, labels.candidates
    test = torch.from_numpy(part_of == "test")[tiles.slide]
    validate = partial(_bag_auc, bags=run.bags, tiles=tiles, chosen=np.flatnonzero(part_of == "val"))
    rows = []
    for way in CLEANED:
        kept, network = clean(way, labels, seed=seed, validate=validate)
        log_odds = labels.student[0] if network is None else _log_odds(network, tiles)
        pseudo = torch.where(candidates, kept, UNLABELED)
        share = float((pseudo != UNLABELED).sum() / candidates.sum())
        wrong = wrong_share(pseudo, tiles.truth, slide=tiles.slide)
        found = measure(log_odds[test], tiles.truth[test], slide=tiles.slide[test])
        rows.append({"way": way, "seed": seed, "fold": fold, "kept": share, "wrong": wrong, **found})
    return rows


def _trained(run: Run, part_of: np.ndarray, *, seed: int, fold: int) -> TeacherStudent:
    """Train WENO as the run's settings say; return the epoch selected on the validation slides."""
    ids = np.array(run.bags.slide_ids)
    train, val = (run.bags.select(ids[part_of == part].tolist()) for part in ("train", "val"))
    job = Job("weno", seed, fold, tuple(run.settings.run.classes), run.settings)
    with tempfile.TemporaryDirectory() as folder:
        return train_recipe(job, train, val, work_dir=Path(folder), on_epoch=lambda row: None).model


def read_labels(model: TeacherStudent, bags: BagSet, values: Tensor, *, train: np.ndarray) -> Labels:
    """Ask a student about all tiles; `values` stand for their features, `train` tells the training slides."""
    slide = torch.from_numpy(np.repeat(np.arange(len(bags.labels)), np.diff(bags.offsets)))
    no_edges = torch.empty(2, 0, dtype=torch.int64)
    tiles = Tiles(values, no_edges, torch.from_numpy(bags.tile_labels.astype(np.int64)), slide)
    positive, trained = torch.from_numpy(bags.labels > 0)[slide], torch.from_numpy(train)[slide]
    student = torch.stack([_student(model, bags, number) for number in range(VIEWS)])
    student = student - student[0][trained & ~positive].quantile(NORMAL_SHARE)
    return Labels(tiles, torch.where(trained & ~positive, 0, UNLABELED), student, trained & positive)


def clean(way: str, labels: Labels, *, seed: int, validate: Callable[[nn.Module], float]) -> Cleaned:
    """Keep the student's labels in one way of `CLEANED`, and train a classifier on them."""
    inside = labels.candidates.nonzero()[:, 0]
    half, eighth = len(inside) // 2, len(inside) // (2 * ROUNDS)
    views = [torch.stack([-logits, logits], dim=1)[inside] / 2.0 for logits in labels.student]
    views, caution = {
        "half at once": (views[:1], Caution(half, per_class=False)),
        "half, quotas and views": (views, Caution(half)),
        "eighth at once": (views[:1], Caution(eighth, per_class=False)),
    }.get(way, (views, Caution(eighth)))
    if way in ("student itself", "all"):
        views, caution = views[:1], Caution(len(inside), per_class=False)
    selected = select_cautiously(views, candidates=labels.candidates[inside], caution=caution)
    kept = labels.known.clone()
    kept[inside[selected.rows]] = selected.labels
    if way == "student itself":
        return Cleaned(kept, None)
    last: list[Cleaned] = []

    def train(current: Tensor, _: nn.Module | None) -> nn.Module:
        network = fit("mlp", labels.tiles, current, decay=DECAY, seed=seed)
        last.append(Cleaned(current.clone(), network))
        return network

    found = label_cautiously(
        train,
        [partial(view, tiles=labels.tiles, number=number) for number in range(VIEWS)],
        kept,
        candidates=labels.candidates,
        caution=caution,
        rounds=ROUNDS - 1 if "rounds" in way else 0,
        validate=validate,
    )
    return Cleaned(found.labels, found.model) if "chosen" in way else last[-1]


def _bag_auc(network: nn.Module, *, bags: BagSet, tiles: Tiles, chosen: np.ndarray) -> float:
    """AUC of slides by the mean of their largest log-odds: needs no tile's truth."""
    pooled = pool_bags(_log_odds(network, tiles).double().numpy(), bags.offsets, top_k=TOP_K)
    return roc_auc(bags.labels[chosen] > 0, pooled["student_topk"][chosen]).value or 0.0


def _log_odds(network: nn.Module, tiles: Tiles) -> Tensor:
    return view(network, tiles=tiles, number=0).diff(dim=1)[:, 0]


def _student(model: TeacherStudent, bags: BagSet, number: int) -> Tensor:
    """Return (tiles,) logits of the student, from number 1 on with a share of features put to their mean."""
    features = bags.features.astype(np.float32)
    if number:
        dropped = np.random.default_rng(number).random(features.shape) < DROPPED
        features = np.where(dropped, features.mean(axis=0), features)
    scored = score_model(model, bags._replace(features=features), Pooling("topk", TOP_K))
    return torch.from_numpy(scored.instances["student"]).float()
