"""What each step uses of the manifest's rows: of that the workflow's plan and its jobs must agree."""

from collections.abc import Sequence

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.files import content_hash

_ROW_COLUMNS: dict[str, tuple[str, ...]] = {
    "mask": ("slide_id", "path", "slide_mpp"),
    "tile": ("slide_id", "path", "slide_mpp", "annotation", "label"),
    "stain": ("slide_id", "path", "slide_mpp"),
    "embed": ("slide_id", "path", "slide_mpp"),
    "adopt": ("slide_id", "path", "slide_mpp", "annotation", "label"),
    "qc": ("slide_id", "path"),
    "split": ("slide_id", "case_id", "label", "split"),
    "evaluate": ("slide_id", "case_id", "label", "site", "annotation", "extra"),
    "report": ("slide_id", "case_id", "label", "path", "site"),
}


def rows_hash(rows: Sequence[SlideRow], step: str) -> str:
    """Return the sha256 of the manifest columns that `step` uses."""
    columns = _ROW_COLUMNS[step]
    table = [[str(getattr(row, column)) for column in columns] for row in rows]
    return content_hash(table)
