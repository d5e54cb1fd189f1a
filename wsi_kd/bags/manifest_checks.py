"""What can be wrong with a manifest's text: columns, ids, labels; one BadInput lists all faults of a kind."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from wsi_kd.bags.slide_files import same_name_key, slide_id_fault
from wsi_kd.bags.tables import Table, TableRow, listed
from wsi_kd.core.errors import BadInput, unknown_name

KNOWN_COLUMNS = ("slide_id", "path", "label", "case_id", "split", "slide_mpp", "annotation", "site")
_OTHER_NAMES = {"patient": "case_id", "patient_id": "case_id", "case": "case_id", "mpp": "slide_mpp"}
_NO_LABEL = {"", "nan", "na", "n/a", "n.a.", "#n/a", "null", "none", "-", "?"}
_NEGATIVE_WORDS = frozenset(
    ("normal", "negative", "neg", "benign", "healthy", "control", "wildtype", "wild-type", "wt", "no", "0")
)


def check_columns(table: Table, required: Sequence[str]) -> None:
    """Refuse missing columns, columns that look like a misspelt known one, and a table without rows.

    Any other column is free. A `case_ID` left unread would put one patient into two parts without a word.
    """
    absent = set(KNOWN_COLUMNS) - set(table.columns)
    meant = {name: near for name in table.columns if name and (near := _meant(name, absent))}
    hints = [f"'{name}' (did you mean '{near}'?)" for name, near in meant.items()]
    missing = [name for name in required if name in absent]
    if missing:
        found = listed(hints or [repr(name) for name in table.columns])
        with_ids = missing == ["path"] and "slide_id" in required
        by_id = "; or give slides_dir, to find slides by their id" if with_ids else ""
        raise BadInput(f"{table.path}: line 1: no column {listed(missing)}; found {found}{by_id}")
    if meant:
        raise BadInput(f"{table.path}: line 1: columns left unread: {listed(hints)}; rename or remove them")
    if not table.rows:
        raise BadInput(f"{table.path}: a header but no slides; expected one line a slide")


def check_slide_ids(table: Table, slide_ids: Sequence[str]) -> None:
    """Refuse ids that cannot name a file, and ids that are equal but for case or Unicode form."""
    lines = [row.line for row in table.rows]
    faults = [
        f"line {line}: {slide_id!r} {slide_id_fault(slide_id)}"
        for line, slide_id in zip(lines, slide_ids, strict=True)
        if slide_id_fault(slide_id)
    ]
    if faults:
        raise BadInput(f"{table.path}: column slide_id: {listed(faults)}; ids name files, so use plain ones")
    clashing = clashes(slide_ids)
    if clashing:
        pairs = zip(lines, slide_ids, strict=True)
        named = [f"{name!r} (line {line})" for line, name in pairs if same_name_key(name) in clashing]
        raise BadInput(
            f"{table.path}: column slide_id: the same, or the same but for case or accents: {listed(named)}; "
            "give each slide its own id"
        )


def check_case_ids(table: Table, case_ids: Iterable[str]) -> None:
    """Refuse a patient written in two ways, who would leak between parts, and invisible characters."""
    distinct = sorted(set(case_ids))
    faults = [repr(case_id) for case_id in distinct if not case_id.isprintable()]
    if faults:
        raise BadInput(f"{table.path}: column case_id: control or invisible characters in {listed(faults)}")
    clashing = clashes(distinct)
    if clashing:
        named = [repr(case_id) for case_id in distinct if same_name_key(case_id) in clashing]
        raise BadInput(
            f"{table.path}: column case_id: the same but for case or accents: {listed(named)}; "
            "write a patient in one way, or slides of one patient leak between parts"
        )


def check_labels(
    table: Table, labels: Sequence[str], classes: Sequence[str], *, may_lack: Sequence[bool] = ()
) -> tuple[str, ...]:
    """Refuse missing and unknown labels and fewer than two classes; return the classes in order.

    Where `may_lack` (one a slide; none: nowhere) is True an empty cell is fine.
    """
    if len(set(classes)) != len(classes):
        raise BadInput(f"run.classes names a label twice: {listed(classes)}")
    spared = list(may_lack) or [False] * len(labels)
    rows = [
        (row, label)
        for row, label, spare in zip(table.rows, labels, spared, strict=True)
        if label or not spare
    ]
    empty = [str(row.line) for row, label in rows if label.casefold() in _NO_LABEL and label not in classes]
    if empty:
        raise BadInput(
            f"{table.path}: column label: no label in lines {listed(empty)}; every slide needs one"
        )
    labels = [label for _, label in rows]
    known = tuple(classes) or tuple(sorted(set(labels)))
    _refuse_alike(known, where=table.path)
    _check_known([row for row, _ in rows], labels, known, where=table.path)
    if not known:
        raise BadInput(f"{table.path}: column label: no slide has a label; at least two classes are needed")
    if len(known) < 2:  # noqa: PLR2004 - a classifier tells at least two things apart
        raise BadInput(
            f"{table.path}: column label: only '{known[0]}' occurs; at least two classes are needed"
        )
    unused = [name for name in known if name not in set(labels)]
    if unused:
        raise BadInput(f"{table.path}: column label: no slide is {listed(unused)}, which run.classes names")
    return known


def refuse_guessed_order(known: Sequence[str], *, where: Path) -> None:
    """Refuse labels that nobody ordered and whose alphabetical order makes a positive class the negative one.

    "Tumor" sorts before "normal", "cancer" before "healthy": WENO would take every tile of a tumor slide
    to be negative. Labels without a word that tells are taken as sorted.

    Raises:
        BadInput: with the order that is meant.
    """
    negative = [label for label in known if _seems_negative(label)]
    if negative and known[0] not in negative:
        order = ", ".join([*negative, *(label for label in known if label not in negative)])
        raise BadInput(
            f"{where}: column label: sorted, '{known[0]}' would be the negative class and '{negative[0]}' a "
            f"positive one; tell the order, the negative class first: run.classes: [{order}]"
        )


def clashes(names: Iterable[str]) -> set[str]:
    """Return the keys (`same_name_key`) that more than one name has."""
    return {key for key, count in Counter(map(same_name_key, names)).items() if count > 1}


def _check_known(
    rows: Sequence[TableRow], labels: Sequence[str], known: Sequence[str], *, where: Path
) -> None:
    hidden = [repr(label) for label in sorted(set(labels)) if not label.isprintable()]
    if hidden:
        raise BadInput(f"{where}: column label: control or invisible characters in {listed(hidden)}")
    strange = {label: row.line for row, label in zip(rows, labels, strict=True) if label not in known}
    if strange:
        first = unknown_name("label", next(iter(strange)), known)
        lines = listed(f"'{label}' (line {line})" for label, line in strange.items())
        raise BadInput(f"{where}: column label: {first}; run.classes lacks {lines}")


def _refuse_alike(known: Sequence[str], *, where: Path) -> None:
    clashing = clashes(known)
    alike = [repr(label) for label in known if same_name_key(label) in clashing]
    if alike:
        raise BadInput(
            f"{where}: column label: the same but for case or accents: {listed(alike)}; "
            "write a class in one way, or it becomes two"
        )


def _seems_negative(label: str) -> bool:
    word = label.casefold()
    return word in _NEGATIVE_WORDS or word.startswith(("non-", "non_", "not ", "no "))


def _meant(name: str, absent: set[str]) -> str:
    if name in KNOWN_COLUMNS:
        return ""
    plain = name.casefold().replace(" ", "_").replace("-", "_")
    plain = _OTHER_NAMES.get(plain, plain)
    near = [plain] if plain in absent else get_close_matches(plain, sorted(absent), n=1, cutoff=0.85)
    return near[0] if near else ""
