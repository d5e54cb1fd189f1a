"""One table of folds -> files of CLAM, Patho-Bench and STAMP: plain rows, for the steps to write."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from wsi_kd.bags.manifest import PARTS
from wsi_kd.bags.splits import Fold


class LabeledSlide(NamedTuple):
    """What the tables of other programs say of a slide."""

    slide_id: str
    case_id: str
    label: str


class TextTable(NamedTuple):
    """A table to write; the delimiter follows from the file's ending (.tsv: tabs)."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def clam_tables(slides: Sequence[LabeledSlide], folds: Sequence[Fold]) -> list[TextTable]:
    """Build CLAM's label table and, a fold, `splits_<i>.csv` with its `_bool` and `_descriptor` forms.

    The unnamed first columns are those of pandas' index, which CLAM's own files have.
    """
    labels = ("case_id", "slide_id", "label")
    tables = [TextTable("labels.csv", labels, tuple((s.case_id, s.slide_id, s.label) for s in slides))]
    label_of = {slide.slide_id: slide.label for slide in slides}
    for index, fold in enumerate(folds):
        lists = tuple((str(number), *ids) for number, ids in enumerate(zip_longest(*fold, fillvalue="")))
        marks = tuple(
            (slide_id, *(str(name == part) for name in PARTS))
            for part, ids in zip(PARTS, fold, strict=True)
            for slide_id in ids
        )
        counts = tuple(
            (label, *(str(sum(label_of[s] == label for s in ids)) for ids in fold))
            for label in sorted(set(label_of.values()))
        )
        columns = ("", *PARTS)
        tables += [
            TextTable(f"splits_{index}.csv", columns, lists),
            TextTable(f"splits_{index}_bool.csv", columns, marks),
            TextTable(f"splits_{index}_descriptor.csv", columns, counts),
        ]
    return tables


def patho_bench_tables(
    slides: Sequence[LabeledSlide], folds: Sequence[Fold], *, task: str
) -> list[TextTable]:
    """Build Patho-Bench's `k=all.tsv`: case_id, slide_id, the task's label, fold_0, fold_1, ...

    A slide that stands in no part of a fold has an empty cell.
    """
    part_of = [
        {slide_id: part for part, ids in zip(PARTS, fold, strict=True) for slide_id in ids} for fold in folds
    ]
    columns = ("case_id", "slide_id", task, *(f"fold_{index}" for index in range(len(folds))))
    rows = tuple(
        (s.case_id, s.slide_id, s.label, *(parts.get(s.slide_id, "") for parts in part_of)) for s in slides
    )
    return [TextTable("k=all.tsv", columns, rows)]


def stamp_tables(slides: Sequence[LabeledSlide]) -> list[TextTable]:
    """Build STAMP's clini table (one row a patient) and slide table (file names with their ending)."""
    patients = {slide.case_id: slide.label for slide in slides}
    return [
        TextTable("clini.csv", ("PATIENT", "label"), tuple(patients.items())),
        TextTable(
            "slides.csv",
            ("PATIENT", "FILENAME"),
            tuple((slide.case_id, f"{slide.slide_id}.h5") for slide in slides),
        ),
    ]


def stamp_splits(
    slides: Sequence[LabeledSlide], folds: Sequence[Fold]
) -> dict[str, list[dict[str, list[str]]]]:
    """Build STAMP's splits.json: patients of train and test; val joins train, STAMP draws its own there."""
    case_of = {slide.slide_id: slide.case_id for slide in slides}

    def cases(slide_ids: Sequence[str]) -> list[str]:
        return sorted({case_of[slide_id] for slide_id in slide_ids})

    return {
        "splits": [
            {"train_patients": cases((*fold.train, *fold.val)), "test_patients": cases(fold.test)}
            for fold in folds
        ]
    }


def cases_of_two_labels(slides: Sequence[LabeledSlide]) -> list[str]:
    """List cases whose slides have different labels: STAMP keeps one label a patient."""
    labels: dict[str, set[str]] = {}
    for slide in slides:
        labels.setdefault(slide.case_id, set()).add(slide.label)
    return [case for case, found in labels.items() if len(found) > 1]
