"""Who is trained on, selected on, tested on: folds by patient, drawn here or given by the user.

Two slides of one case never stand in two parts. Drawn folds depend on seed, ids and labels alone: a case's
place in the order is the sha256 of seed and case id, so neither the manifest's order nor a library's version
matters.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.given_splits import count_given_folds, read_given_parts
from wsi_kd.bags.manifest import PARTS, SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput

MIN_FOLDS = 3


class Fold(NamedTuple):
    """Slide ids of the three parts of one fold, each sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def plan_folds(
    rows: Sequence[SlideRow],
    *,
    folds: int,
    seed: int,
    given: Path | None,
    excluded: Collection[str] = (),
) -> list[Fold]:
    """Return the checked folds: those of `given`, else of the manifest's column split, else drawn.

    Args:
        rows: every slide of the manifest.
        folds: how many to draw.
        seed: of the draw.
        given: folder or table of splits made elsewhere.
        excluded: slide ids that take part in no fold (their status is not ok).

    Raises:
        BadInput: unknown slides, leaks, or a part without slides of every class.
    """
    out = set(excluded)
    usable = [row for row in rows if row.slide_id not in out]
    if given is not None:
        planned = given_folds(given, rows)
        refuse_folds_without_val(planned, where=given)
    elif any(row.split for row in rows):
        planned = column_fold(rows)
    else:
        planned = draw_folds(usable, folds=folds, seed=seed)
    check_folds(planned, rows, sorted({row.label for row in rows} - {""}), excluded=out)
    return [
        Fold(*(tuple(slide_id for slide_id in part if slide_id not in out) for part in fold))
        for fold in planned
    ]


def count_folds(rows: Sequence[SlideRow], *, folds: int, given: Path | None) -> int:
    """Tell how many folds `plan_folds` will return, without drawing any (the workflow asks for its DAG)."""
    if given is not None:
        return count_given_folds(given)
    return 1 if any(row.split for row in rows) else folds


def draw_folds(rows: Sequence[SlideRow], *, folds: int, seed: int) -> list[Fold]:
    """Draw patient-grouped, stratified folds: fold i tests on part i, selects on part i+1, trains on others.

    Cases with the same set of labels are dealt in rounds, one case to each part, the largest cases first and
    to the part that holds the fewest slides of these classes so far. So the parts differ by at most one case
    for each such set, and every case is tested exactly once.

    Raises:
        BadInput: fewer than three folds, or a class with fewer cases than folds.
    """
    if folds < MIN_FOLDS:
        raise BadInput(f"split.folds is {folds}; train, val and test need at least {MIN_FOLDS}")
    _check_enough_cases(rows, folds)
    parts = _deal(rows, folds=folds, seed=seed)
    drawn = []
    for index in range(folds):
        val = (index + 1) % folds
        train = chain.from_iterable(part for i, part in enumerate(parts) if i not in {index, val})
        drawn.append(_fold({"train": train, "val": parts[val], "test": parts[index]}))
    return drawn


def given_folds(path: Path, rows: Sequence[SlideRow]) -> list[Fold]:
    """Read splits made elsewhere: a folder of CLAM's `splits_<i>.csv`, or one table with `fold_<i>` columns.

    Raises:
        BadInput: unreadable tables, slide ids that the manifest does not hold, an id in two parts.
    """
    parts_by_fold = read_given_parts(path, {row.slide_id for row in rows})
    return [fold_of_parts(parts) for parts in parts_by_fold]


def fold_of_parts(parts: Mapping[str, str]) -> Fold:
    """Turn the part of each slide into a fold."""
    return _fold({part: [s for s, p in parts.items() if p == part] for part in PARTS})


def refuse_folds_without_val(folds: Iterable[Fold], *, where: Path) -> None:
    """Refuse folds of train and test alone, as STAMP and Patho-Bench keep them, with the way out.

    Raises:
        BadInput: naming the folds.
    """
    without = [str(index) for index, fold in enumerate(folds) if not fold.val]
    if without:
        raise BadInput(
            f"{where}: no val part in fold {listed(without)}; models are selected there: draw one from the "
            "train cases with: wsi-kd splits import --val-share 0.2"
        )


def column_fold(rows: Sequence[SlideRow]) -> list[Fold]:
    """Return the single fold that the manifest's column split names; slides with an empty cell stay out."""
    return [_fold({part: [row.slide_id for row in rows if row.split == part] for part in PARTS})]


def check_folds(
    folds: Sequence[Fold], rows: Sequence[SlideRow], classes: Sequence[str], *, excluded: Collection[str] = ()
) -> None:
    """Refuse folds (of slides in `rows`) that leak or cannot be trained, selected and tested on.

    Raises:
        BadInput: a case in two parts of a fold (named; excluded slides count too), or a part without a usable
            slide of each class (a test part that holds slides without label need not have any).
    """
    label_of = {row.slide_id: row.label for row in rows if row.slide_id not in excluded}
    refuse_leaks(folds, {row.slide_id: row.case_id for row in rows})
    _check_classes(folds, label_of, classes)


def refuse_leaks(folds: Sequence[Fold], case_of: Mapping[str, str]) -> None:
    """Refuse folds in which a case stands in two parts.

    Args:
        folds: to be checked.
        case_of: by slide id.

    Raises:
        BadInput: naming the fold and its cases.
    """
    for index, fold in enumerate(folds):
        _check_leaks(index, fold, case_of)


def leaking_cases(fold: Fold, case_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the cases of a fold that stand in more than one part, in order, with these parts."""
    parts_of: dict[str, list[str]] = defaultdict(list)
    for name, slide_ids in fold._asdict().items():
        for case_id in {case_of[slide_id] for slide_id in slide_ids}:
            parts_of[case_id].append(name)
    return {case_id: parts for case_id, parts in sorted(parts_of.items()) if parts[1:]}


def _fold(parts: Mapping[str, Iterable[str]]) -> Fold:
    return Fold(**{name: tuple(sorted(slide_ids)) for name, slide_ids in parts.items()})


def _cases(rows: Iterable[SlideRow]) -> dict[str, list[SlideRow]]:
    cases: dict[str, list[SlideRow]] = defaultdict(list)
    for row in rows:
        cases[row.case_id].append(row)
    return cases


def _deal(rows: Sequence[SlideRow], *, folds: int, seed: int) -> list[list[str]]:
    """Deal whole cases to parts; scarce kinds of cases first, so that the common ones level the sizes."""
    cases = _cases(rows)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for case_id, slides in cases.items():
        strata[tuple(sorted({row.label for row in slides}))].append(case_id)
    parts: list[list[str]] = [[] for _ in range(folds)]
    load: dict[str, list[int]] = defaultdict(lambda: [0] * folds)
    for labels in sorted(strata, key=lambda labels: (len(strata[labels]), labels)):
        order = sorted(strata[labels], key=lambda case_id: (-len(cases[case_id]), _ticket(seed, case_id)))
        chance = [_ticket(seed, f"{labels} {part}") for part in range(folds)]
        for start in range(0, len(order), folds):
            crowding = [sum(load[label][part] for label in labels) for part in range(folds)]
            sizes = [len(part) for part in parts]
            emptiest = sorted(range(folds), key=list(zip(crowding, sizes, chance, strict=True)).__getitem__)
            for case_id, part in zip(order[start : start + folds], emptiest, strict=False):
                parts[part] += [row.slide_id for row in cases[case_id]]
                for row in cases[case_id]:
                    load[row.label][part] += 1
    return parts


def _ticket(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()


def _check_enough_cases(rows: Sequence[SlideRow], folds: int) -> None:
    cases: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        cases[row.label].add(row.case_id)
    counts = {label: len(case_ids) for label, case_ids in sorted(cases.items())}
    fewest = min(counts.values(), default=0)
    if fewest >= folds:
        return
    told = ", ".join(f"{label} {count}" for label, count in counts.items()) or "none"
    remedy = f"set it to {fewest} or fewer" if fewest >= MIN_FOLDS else f"add cases ({MIN_FOLDS} at least)"
    raise BadInput(
        f"split.folds is {folds}, each part needs a case of every class, and the usable cases are: "
        f"{told}; {remedy}"
    )


def _check_leaks(index: int, fold: Fold, case_of: Mapping[str, str]) -> None:
    leaks = [f"{case_id} ({' and '.join(parts)})" for case_id, parts in leaking_cases(fold, case_of).items()]
    if leaks:
        raise BadInput(
            f"fold {index} leaks: cases in more than one part: {listed(leaks)}; "
            "keep all slides of a case in one part"
        )


def _check_classes(folds: Sequence[Fold], label_of: Mapping[str, str], classes: Sequence[str]) -> None:
    faults = []
    for index, fold in enumerate(folds):
        for name, slide_ids in fold._asdict().items():
            usable = [label_of[slide_id] for slide_id in slide_ids if slide_id in label_of]
            if name == "test" and "" in usable:
                continue  # slides to be scored, not measured: evaluate says what it cannot
            absent = [label for label in classes if label not in usable]
            if absent:
                faults.append(
                    f"fold {index} has no {' and no '.join(absent)} among the {len(usable)} of {name}"
                )
    if faults:
        raise BadInput(
            f"each part needs usable slides of every class: {listed(faults)}; "
            "use fewer folds, other splits or more slides"
        )
