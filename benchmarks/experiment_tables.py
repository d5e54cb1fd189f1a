"""Rows of an experiment -> its tables in Markdown: mean and spread over seeds, and a paired test of bags."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Final, NamedTuple

from scipy.stats import t as student_t

from experiment_file import Experiment
from experiment_jobs import NO_EPOCH, Row
from experiment_problems import fold_count, overlap, problem_names
from experiment_scores import INSTANCE_SCORES

MAIN_COLUMNS: Final = {
    "bag_teacher": "bag AUC, teacher",
    "bag_student_max": "bag AUC, student max",
    "bag_student_topk": "bag AUC, student top-k",
    "bag_student_mean": "bag AUC, student mean",
    "against": "",
    "auc_attention": "instance AUC, attention",
    "auc_attention_evidence": "instance AUC, attention x evidence",
    "auc_evidence": "instance AUC, evidence",
    "auc_student": "instance AUC, student",
    "hard_evidence": "hard positives, evidence",
    "hard_student": "hard positives, student",
}
ACCURACY_COLUMNS: Final = {
    "accuracy_even_teacher": "accuracy at 0.5, teacher",
    "accuracy_teacher": "accuracy, teacher",
    "accuracy_deployed": "accuracy, answer",
}
DETAIL_COLUMNS: Final = {
    f"{measure}_{score}{place}": f"{shown}, {score.replace('_', ' x ')}"
    for measure, place, shown in (
        ("ap", "", "instance AP"),
        ("auc", "_inside", "AUC inside positive bags"),
        ("ap", "_inside", "AP inside positive bags"),
    )
    for score in INSTANCE_SCORES
}
READING: Final = """\
- Values: mean +- standard deviation over seeds (of the mean over folds, where there are folds).
- Epochs: `selected` has the lowest validation loss, `last` is the last one.
- A method's answer for a bag is its student's pooled score where it has a student, else its teacher's.
- Logistic regressions stand in the columns of the student; AP is the average precision.
- Accuracies are at a threshold chosen on validation, but for those at 0.5.
- "{heading}": difference of the answers' bag AUC at the same epoch, and p of the paired t-test over {pairs},
  {correction}; two-sided, not corrected for the number of methods.
"""


class Paired(NamedTuple):
    """Mean of paired differences, and how likely one as large is if there is none."""

    difference: float
    p_value: float | None
    """None of a single pair."""


def paired_test(differences: Sequence[float], *, test_to_rest: float) -> Paired:
    """Test whether paired differences have mean 0, with the variance that overlapping data hide added.

    t = mean(d) / sqrt((1 / n + r) var(d)) on n - 1 degrees of freedom. r = 0 is the paired t-test, right
    where each pair has data of its own. Where all pairs are cut from the same bags their models share
    training data; r = n_test / n_rest corrects for it (Nadeau and Bengio, Machine Learning 2003, section 4;
    over all folds of repeated cross-validation: Bouckaert and Frank, PAKDD 2004).

    >>> paired_test([0.1, 0.2, 0.3], test_to_rest=0.0)
    Paired(difference=0.2, p_value=0.0742)
    """
    mean, count = fmean(differences), len(differences)
    if count == 1:
        return Paired(mean, None)
    error = stdev(differences) * math.sqrt(1.0 / count + test_to_rest)
    if error == 0.0:
        return Paired(mean, 1.0 if mean == 0.0 else 0.0)
    return Paired(round(mean, 12), round(2.0 * float(student_t.sf(abs(mean) / error, count - 1)), 4))


def summary(values: Sequence[float]) -> str:
    """Mean and, of several values, standard deviation; empty without values.

    >>> summary([0.5, 0.75]), summary([0.5]), summary([])
    ('0.625 +- 0.177', '0.500', '')
    """
    spread = f" +- {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}" if values else ""


def experiment_tables(experiment: Experiment, rows: Sequence[Row]) -> str:
    """Write all tables of what is measured so far."""
    parts = [f"# {experiment.title}\n", f"{experiment.about.strip()}\n", _reading(experiment)]
    for problem in problem_names(experiment.problem):
        found = [row for row in rows if row.problem == problem]
        if found:
            parts.append(f"## {problem}\n\n{_bags_line(found)}\n\n{_problem_tables(experiment, found)}")
    return "\n".join(part for part in parts if part.strip())


def _reading(experiment: Experiment) -> str:
    family = experiment.problem
    folds, ratio = fold_count(family), overlap(family)
    return READING.format(
        heading=_heading(experiment),
        pairs="seeds" if folds == 1 else "seeds and folds",
        correction="each seed with data of its own"
        if ratio == 0.0
        else f"corrected for shared bags (Nadeau and Bengio 2003, n_test / n_rest = {ratio:.3f})",
    )


def _heading(experiment: Experiment) -> str:
    return f"answer against {experiment.compare_with}"


def _bags_line(rows: Sequence[Row]) -> str:
    bags = ", ".join(f"{rows[0].bags[part]} {part}" for part in ("train", "val", "scored"))
    seeds, folds = (len({getattr(row, name) for row in rows}) for name in ("seed", "fold"))
    return f"Bags: {bags}{' (of the first fold)' if folds > 1 else ''}. Seeds: {seeds}. Folds: {folds}."


def _problem_tables(experiment: Experiment, rows: Sequence[Row]) -> str:
    main = {**MAIN_COLUMNS, "against": _heading(experiment)}
    if experiment.problem.family == "table":
        main |= ACCURACY_COLUMNS
    lines = {
        (method, epoch): _cells(experiment, rows, method=method, epoch=epoch)
        for method in (*experiment.baselines, *experiment.methods)
        for epoch in (NO_EPOCH, "selected", "last")
        if any((row.method, row.epoch) == (method, epoch) for row in rows)
    }
    for one in experiment.published:
        shown = {column: f"{value:.3f}" for column, value in one.values.items()}
        lines[f"{one.name} ({one.source})", "published"] = shown
    return "\n".join(table for table in (_table(main, lines), _table(DETAIL_COLUMNS, lines)) if table)


def _table(columns: Mapping[str, str], lines: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """Lay out the columns that any line fills; empty without one."""
    used = {name: head for name, head in columns.items() if any(cells.get(name) for cells in lines.values())}
    if not used:
        return ""
    table = [f"| method | epoch | {' | '.join(used.values())} |", f"|---|---|{'---|' * len(used)}"]
    for (method, epoch), cells in lines.items():
        if any(cells.get(name) for name in used):
            shown = "" if epoch == NO_EPOCH else epoch
            table.append(f"| {method} | {shown} | {' | '.join(cells.get(name, '') for name in used)} |")
    return "\n".join(table) + "\n"


def _cells(experiment: Experiment, rows: Sequence[Row], *, method: str, epoch: str) -> dict[str, str]:
    found = [row for row in rows if (row.method, row.epoch) == (method, epoch)]
    columns = dict.fromkeys(column for row in found for column in row.measures)
    cells = {column: summary(per_seed(found, column)) for column in columns}
    if method != experiment.compare_with:
        cells["against"] = _against(experiment, rows, found)
    return cells


def per_seed(rows: Sequence[Row], column: str) -> list[float]:
    """Mean over the folds of each seed."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if column in row.measures:
            values.setdefault(row.seed, []).append(row.measures[column])
    return [fmean(of_seed) for of_seed in values.values()]


def against_reference(experiment: Experiment, rows: Sequence[Row], found: Sequence[Row]) -> Paired | None:
    """Compare with the reference on the draws that both have; baselines with its selected epoch."""
    epoch = "selected" if found[0].epoch == NO_EPOCH else found[0].epoch
    other = {
        (row.seed, row.fold): row.measures["bag_deployed"]
        for row in rows
        if (row.method, row.epoch) == (experiment.compare_with, epoch) and "bag_deployed" in row.measures
    }
    differences = [
        row.measures["bag_deployed"] - other[row.seed, row.fold]
        for row in found
        if (row.seed, row.fold) in other and "bag_deployed" in row.measures
    ]
    if not differences:
        return None
    return paired_test(differences, test_to_rest=overlap(experiment.problem))


def _against(experiment: Experiment, rows: Sequence[Row], found: Sequence[Row]) -> str:
    paired = against_reference(experiment, rows, found)
    if paired is None:
        return ""
    told = "" if paired.p_value is None else f" (p {paired.p_value:.3f})"
    return f"{paired.difference:+.3f}{told}"
