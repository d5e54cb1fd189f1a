"""Bags in memory, and the three parts that one job of an experiment works on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int8, Int64

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.splits import draw_folds


class Parts(NamedTuple):
    """What is trained on, selected on, and scored."""

    train: BagSet
    val: BagSet
    scored: BagSet
    """The test part; the validation part where ideas are compared."""
    hard: Bool[np.ndarray, "instances"] | None
    """Which instances of `scored` are hard positives, where the problem knows."""


def make_bags(
    features: Float[np.ndarray, "instances features"],
    *,
    sizes: Sequence[int],
    labels: Int64[np.ndarray, "bags"],
    tile_labels: Int8[np.ndarray, "instances"],
    names: Sequence[str] | None = None,
) -> BagSet:
    """Cut instances into bags of `sizes`, one after another; `names` default to bag_000, bag_001, ..."""
    return BagSet(
        slide_ids=tuple(names or (f"bag_{index:03d}" for index in range(len(sizes)))),
        features=features,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        labels=labels,
        tile_labels=tile_labels,
        coords=np.zeros((len(features), 2), np.int64),
        header={},
    )


def shuffled_bags(bags: BagSet) -> BagSet:
    """Return the same bags, the instances of each in an order of chance that is the same in every call."""
    chance = np.random.default_rng(0)
    spans = zip(bags.offsets[:-1], bags.offsets[1:], strict=True)
    order = np.concatenate([chance.permutation(np.arange(start, end)) for start, end in spans])
    return bags._replace(
        features=bags.features[order], tile_labels=bags.tile_labels[order], coords=bags.coords[order]
    )


def fold_parts(
    bags: BagSet, cases: Sequence[str], *, folds: int, seed: int, fold: int, part: str = "test"
) -> Parts:
    """Cut bags into the parts of one fold of a stratified cross-validation, the project's own draw.

    Fold i tests on part i and selects on part i + 1; all bags of a case stand in one part.

    Raises:
        BadInput: a class has fewer cases than there are folds.
    """
    rows = [
        SlideRow(slide_id, Path(), str(label), case, split="", slide_mpp=None, annotation=None, site="")
        for slide_id, label, case in zip(bags.slide_ids, bags.labels, cases, strict=True)
    ]
    chosen = draw_folds(rows, folds=folds, seed=seed)[fold]
    parts = {name: bags.select(slide_ids) for name, slide_ids in chosen._asdict().items()}
    return Parts(parts["train"], parts["val"], parts[part], hard=None)
