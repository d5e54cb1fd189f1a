"""Part of step report: what `check-precision` found, where somebody ran it."""

from pathlib import Path
from typing import Any

from wsi_kd.bags.tables import listed
from wsi_kd.core.files import read_json
from wsi_kd.core.provenance import check_schema
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.precision_lines import PrecisionLine, precision_lines
from wsi_kd.steps.precision_record import KIND, PRECISION, REMAKE
from wsi_kd.steps.precision_today import changed_since


def read_precision(results_dir: Path, metrics: Metrics) -> tuple[PrecisionLine, ...]:
    """Read the run's `precision.json`, where there is one, and compare it with today's models and features.

    Raises:
        BadInput: a record that is damaged or of another version.
    """
    path = results_dir / PRECISION
    if not path.is_file():
        return ()
    record: dict[str, Any] = read_json(path, remake=REMAKE)
    check_schema(record, KIND, where=path, remake=REMAKE)
    outdated = listed(list(changed_since(record, results_dir)))
    return tuple(precision_lines(record, metrics, outdated=outdated))
