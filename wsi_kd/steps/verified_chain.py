"""Whether the files of a run fit together: each comparison yields a file and what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from wsi_kd.bags.splits import leaking_cases
from wsi_kd.core.files import content_hash, read_json, read_table, sidecar
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.store import read_header
from wsi_kd.inference.tables import PredictionTable, prediction_columns, read_predictions
from wsi_kd.steps.evaluated_table import MODEL_COLUMNS
from wsi_kd.steps.finished_run import METRICS
from wsi_kd.steps.precision_record import KIND as PRECISION_KIND
from wsi_kd.steps.precision_record import PRECISION
from wsi_kd.steps.precision_record import REMAKE as REMAKE_PRECISION
from wsi_kd.steps.precision_today import changed_since
from wsi_kd.steps.scored_models import LAST_FOLDER
from wsi_kd.steps.split import EXCLUDED, read_splits
from wsi_kd.steps.status import read_status
from wsi_kd.tissue.polygons import read_tissue

Faults: TypeAlias = Iterator[tuple[Path, str]]

FOLDERS = {"masks": ".geojson", "tiles": ".h5", "features": ".h5"}
PREDICTIONS = "predictions.csv"


def slide_faults(root: Path) -> Faults:
    """Compare each slide's files with its step's status tables, and the last of those with status.csv."""
    last: dict[str, StatusRow] = {}
    for name, ending in FOLDERS.items():
        if (root / name).is_dir():
            last = {}
            yield from _step_faults(root / name, ending, rows=last)
    status = root / "status.csv"
    if not status.is_file():
        yield status, "absent: the run has not come to its split; run it to its end"
        return
    final = {row.slide_id: row for row in read_status(status)}
    for slide_id in sorted(final.keys() ^ last.keys()):
        yield status, f"slide '{slide_id}' stands in it or in the last step's tables, not in both"
    for slide_id in sorted(final.keys() & last.keys()):
        if final[slide_id][:3] != last[slide_id][:3]:
            yield (
                status,
                f"slide '{slide_id}' is {final[slide_id].status}, its step said {last[slide_id].status}",
            )


def _step_faults(folder: Path, ending: str, *, rows: dict[str, StatusRow]) -> Faults:
    """Fill `rows` with the folder's status tables, and compare them with the slides' files."""
    for table in sorted(folder.glob("chunk-*.csv")):
        for row in read_status(table):
            if row.slide_id in rows:
                yield table, f"slide '{row.slide_id}' stands in another table too"
            rows[row.slide_id] = row
    present = {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}
    for slide_id in sorted(rows.keys() - present):
        yield folder / f"{slide_id}{ending}", "absent, though a status table lists the slide; run it again"
    for slide_id in sorted(present - rows.keys()):
        yield folder / f"{slide_id}{ending}", "listed in no status table: of a former manifest; remove it"
    for slide_id in sorted(present & rows.keys()):
        path, row = folder / f"{slide_id}{ending}", rows[slide_id]
        header = read_header(path) if ending == ".h5" else read_tissue(path).header
        told = (str(header["slide_id"]), str(header["status"]))
        if told != (slide_id, str(row.status)):
            yield path, f"holds slide '{told[0]}' with status {told[1]}, its table says {row.status}"


def split_faults(root: Path) -> Faults:
    """Compare splits.csv with the statuses; no case may stand in two parts of a fold."""
    path = root / "splits.csv"
    if not path.is_file():
        yield path, "absent: the run has not come to its split; run it to its end"
        return
    splits = read_splits(path)
    statuses = {row.slide_id: row.status for row in read_status(root / "status.csv")}
    cases = {row.slide_id: row.case_id for row in splits.rows}
    if cases.keys() != statuses.keys():
        yield path, "does not hold the slides of status.csv; split anew"
    for number, fold in enumerate(splits.folds):
        placed = [slide_id for part in fold for slide_id in part]
        failed = [slide_id for slide_id in placed if statuses.get(slide_id) != SlideStatus.OK]
        if failed:
            yield path, f"fold {number} uses slides that are not ok: {', '.join(failed[:5])}"
        twice = list(leaking_cases(fold, cases))
        if twice:
            yield path, f"fold {number} has cases in two parts: {', '.join(twice[:5])}"
        if not placed:
            yield path, f"fold {number} is empty: every slide is {EXCLUDED}"


def prediction_faults(root: Path) -> Faults:
    """Compare each table of predictions with its model's weights, the split, and its tables of tiles."""
    models = sorted((root / "models").glob("*/seed*/fold*/model.json"))
    tables = sorted((root / "predictions").glob(f"*/seed*/fold*/{PREDICTIONS}"))
    for path in models:
        expected = root / "predictions" / path.parent.relative_to(root / "models") / PREDICTIONS
        if expected not in tables:
            yield expected, "absent, though the model is there; run: wsi-kd predict"
    if not tables:
        return
    folds = read_splits(root / "splits.csv").folds
    for path in tables:
        place = path.parent.relative_to(root / "predictions")
        for table, name in ((path, "model.json"), (path.parent / LAST_FOLDER / PREDICTIONS, "last.json")):
            read = read_predictions(table)
            yield from _model_faults(table, read, root / "models" / place / name)
            fold = int(read.header["fold"])
            parts = folds[fold] if fold < len(folds) else None
            for part in ("val", "test"):
                found = {row.slide_id for row in read.rows if row.part == part}
                if parts is None or found != set(getattr(parts, part)):
                    yield table, f"its {part} slides are not those of splits.csv; predict anew"
            yield from _tile_faults(table, read, is_last=name == "last.json")


def _model_faults(path: Path, table: PredictionTable, model: Path) -> Faults:
    if not model.is_file():
        yield model, "absent, though its predictions are there; they can be checked against nothing"
        return
    header = read_json(model, remake="wsi-kd train")
    check_schema(header, "model", where=model, remake="wsi-kd train")
    if table.header["weights_sha256"] != header["weights_sha256"]:
        yield path, f"made by other weights than {model.parent.name}/{model.name} has; predict anew"


def _tile_faults(path: Path, table: PredictionTable, *, is_last: bool) -> Faults:
    """Compare the tables of tiles with the test slides; those of the last epoch may have none at all."""
    folder = path.parent / "tiles"
    wanted = {row.slide_id for row in table.rows if row.part == "test"}
    if is_last and not folder.is_dir():
        return
    present = {file.stem for file in folder.glob("*.csv")}
    for slide_id in sorted(wanted ^ present):
        what = "absent, though it is a test slide" if slide_id in wanted else "of no test slide; remove it"
        yield folder / f"{slide_id}.csv", what
    for slide_id in sorted(wanted & present):
        sheet = folder / f"{slide_id}.csv"
        header = read_json(sidecar(sheet), remake="wsi-kd predict")
        told = (header.get("slide_id"), header.get("weights_sha256"))
        if told != (slide_id, table.header["weights_sha256"]):
            yield sheet, "of another slide or other weights than predictions.csv beside it; predict anew"


def evaluation_faults(root: Path) -> Faults:
    """Compare what was evaluated with the predictions: every model's weights, and every test slide's row."""
    path = root / METRICS
    if not path.is_file():
        yield path, "absent: the run has not come to its evaluation; run it to its end"
        return
    metrics = read_json(path, remake="wsi-kd evaluate")
    check_schema(metrics, "metrics", where=path, remake="wsi-kd evaluate")
    pooled = read_table(path.with_name(PREDICTIONS), remake="wsi-kd evaluate")
    rows = {tuple(row[name] for name in (*MODEL_COLUMNS, "slide_id")): row for row in pooled}
    evaluated = set()
    for recipe, measured in metrics["recipes"].items():
        for model in measured["models"]:
            place = Path(recipe) / f"seed{model['seed']}" / f"fold{model['fold']}"
            table = root / "predictions" / place / PREDICTIONS
            evaluated.add(table)
            read = read_predictions(table)
            if read.header["weights_sha256"] != model["weights_sha256"]:
                yield path, f"{place}: evaluated other weights than predictions.csv is of; evaluate anew"
            key = (recipe, str(model["seed"]), str(model["fold"]))
            yield from _pooled_faults(path, table, key, rows=rows, classes=metrics["classes"])
    for table in sorted((root / "predictions").glob(f"*/seed*/fold*/{PREDICTIONS}")):
        if table not in evaluated:
            yield table, "was not evaluated: of a former setting; evaluate anew, or remove it"
    for foreign in sorted(rows):
        yield path.with_name(PREDICTIONS), f"{'/'.join(foreign)}: a row that no table of predictions holds"


def _pooled_faults(
    path: Path,
    table: Path,
    key: tuple[str, str, str],
    *,
    rows: dict[tuple[str, ...], dict[str, str]],
    classes: list[str],
) -> Faults:
    """Take a model's rows out of `rows` and compare them with its own table."""
    columns = prediction_columns(classes)
    for own in read_table(table, remake="wsi-kd predict"):
        if own["part"] != "test":
            continue
        row = rows.pop((*key, own["slide_id"]), None)
        if row is None or any(row[name] != own[name] for name in columns):
            yield (
                path.with_name(PREDICTIONS),
                f"{own['slide_id']}: not the row of {'/'.join(key)}; evaluate anew",
            )


def precision_faults(root: Path) -> Faults:
    """Compare what `check-precision` checked, where somebody ran it, with today's models and features."""
    path = root / PRECISION
    if not path.is_file():
        return
    record = read_json(path, remake=REMAKE_PRECISION)
    check_schema(record, PRECISION_KIND, where=path, remake=REMAKE_PRECISION)
    for what in changed_since(record, root):
        yield path, f"{what}; check anew with: {REMAKE_PRECISION}"


def report_faults(root: Path) -> Faults:
    """Compare the metrics that the page was drawn from with those of the evaluation."""
    page, drawn = root / "report" / "index.html", root / "report" / "metrics.json"
    if not page.is_file():
        yield page, "absent: the run has not come to its report; run it to its end"
        return
    values: list[dict[str, Any]] = [
        read_json(path, remake="wsi-kd report") for path in (drawn, root / METRICS)
    ]
    if content_hash(values[0]) != content_hash(values[1]):
        yield drawn, "not the metrics of evaluation/metrics.json; draw the page anew with: wsi-kd report"
