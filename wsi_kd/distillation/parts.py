"""Which sample is trained on, selected on, scored: drawn once, in the proportions of the classes.

A draw of n samples is the beginning of one order, in which the classes are mixed evenly: a larger draw with
the same seed holds every smaller one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.samples import UNKNOWN, Indices, Labels, Samples

MIN_CLASSES = 2


class Drawn(NamedTuple):
    """Sample numbers of the three parts, each sorted."""

    train: Indices
    val: Indices
    test: Indices


def draw_parts(samples: Samples, *, val: int | float, test: int | float, seed: int, where: str) -> Drawn:
    """Return the parts: the source's own, and drawn from the rest where it has no val or test of its own.

    Samples without a label are trained on. Cases stay together: a part may be a little larger than asked.

    Args:
        samples: of the source.
        val: number, or share of the samples with a label.
        test: as well.
        seed: of the draw.
        where: names the source in errors.

    Raises:
        BadInput: fewer samples than are asked for, a part without samples of some class.
    """
    own = dict(samples.parts or {})
    labeled = np.flatnonzero(samples.labels != UNKNOWN)
    rest = own.get("train", _without(np.arange(len(samples.labels)), own))
    for name, size in (("test", test), ("val", val)):
        if name not in own:
            count = _count(size, len(labeled), name=name)
            own[name] = _draw_cases(samples, rest, count=count, seed=[seed, len(own)])
            rest = _without_cases(samples, rest, drawn=own[name])
    parts = Drawn(np.sort(rest), np.sort(own["val"]), np.sort(own["test"]))
    _check(samples, parts, where=where)
    return parts


def draw_evenly(labels: Labels, indices: Indices, *, count: int, seed: list[int]) -> Indices:
    """Draw `count` of `indices` in the proportions of the classes; sorted.

    Raises:
        BadInput: there are fewer.
    """
    if count > len(indices):
        raise BadInput(f"data: {count} samples are asked for, {len(indices)} are there; ask for fewer")
    return np.sort(_mixed(labels[indices], indices, seed=seed)[:count])


def falsify(labels: Labels, *, share: float, classes: int, seed: list[int]) -> Labels:
    """Replace a share of the labels (rounded) by another class, each as likely.

    >>> false = falsify(np.zeros(10, np.int64), share=0.4, classes=3, seed=[0])
    >>> int((false != 0).sum()), bool(false.max() < 3)
    (4, True)
    """
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(len(labels))[: round(share * len(labels))]
    changed = labels.copy()
    changed[chosen] = (changed[chosen] + draw.integers(1, classes, len(chosen))) % classes
    return changed


def _mixed(labels: Labels, indices: Indices, *, seed: list[int]) -> Indices:
    """Order samples at random, the classes mixed evenly: the j-th of n of a class stands at (j + u) / n."""
    draw = np.random.default_rng(seed)
    places = np.empty(len(indices))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        places[draw.permutation(own)] = (np.arange(len(own)) + draw.random()) / len(own)
    return indices[np.argsort(places, kind="stable")]


def _draw_cases(samples: Samples, rest: Indices, *, count: int, seed: list[int]) -> Indices:
    known = rest[samples.labels[rest] != UNKNOWN]
    if count > len(known):
        raise BadInput(
            f"data: a part of {count} samples with labels is asked for, {len(known)} are left; "
            "lower val or test"
        )
    if samples.cases is None:
        return draw_evenly(samples.labels, known, count=count, seed=seed)
    cases, case_of = np.unique(np.array(samples.cases)[known], return_inverse=True)
    classes = len(samples.class_names)
    counts = np.bincount(case_of * classes + samples.labels[known], minlength=len(cases) * classes)
    common = counts.reshape(len(cases), classes).argmax(axis=1)
    order = _mixed(common, np.arange(len(cases)), seed=seed)
    sizes = np.cumsum(np.bincount(case_of, minlength=len(cases))[order])
    taken = order[: int(np.searchsorted(sizes, count)) + 1]
    _keep_some(len(taken), len(cases))
    chosen: Indices = known[np.isin(case_of, taken)]
    return chosen


def _without_cases(samples: Samples, rest: Indices, *, drawn: Indices) -> Indices:
    """Leave out what was drawn, and the samples without a label of the same cases."""
    if samples.cases is None:
        return np.setdiff1d(rest, drawn)
    case_of = np.array(samples.cases)
    kept: Indices = rest[~np.isin(case_of[rest], case_of[drawn])]
    return kept


def _keep_some(taken: int, cases: int) -> None:
    if taken == cases:
        raise BadInput(
            f"data: the {cases} cases that are left would all go into one part; lower val or test, "
            "or add cases"
        )


def _without(indices: Int64[np.ndarray, "samples"], parts: Mapping[str, Indices]) -> Indices:
    for own in parts.values():
        indices = np.setdiff1d(indices, own)
    return indices


def _count(size: int | float, labeled: int, *, name: str) -> int:
    count = size if isinstance(size, int) else round(size * labeled)
    if count < 1:
        raise BadInput(f"data.{name}: {size} of {labeled} samples with labels is none; raise it")
    return count


def _check(samples: Samples, parts: Drawn, *, where: str) -> None:
    classes = len(samples.class_names)
    if classes < MIN_CLASSES:
        raise BadInput(f"{where}: {classes} class; at least {MIN_CLASSES} are needed")
    for name, part in parts._asdict().items():
        found = samples.labels[part]
        counts = np.bincount(found[found != UNKNOWN], minlength=classes)
        if name == "train" and counts.min() == 0:
            missing = [samples.class_names[i] for i in np.flatnonzero(counts == 0)]
            raise BadInput(
                f"{where}: the part train has no sample of class {', '.join(missing)}; "
                "add some, number the classes without a gap, or change val, test or seed"
            )
        if name != "train" and (not len(part) or (found == UNKNOWN).any()):
            raise BadInput(
                f"{where}: the part {name} has samples without a label, or none at all; label them"
            )
