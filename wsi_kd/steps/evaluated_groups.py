"""Which slides are measured by themselves: by site, by scanner, by further columns of the manifest."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput, unknown_name

SITE: Final = "site"
SCANNER: Final = "scanner"
MAX_VALUES: Final = 20
"""A further column of more values than this (a date, a name) is no subgroup unless it is asked for."""


def scanner_of(header: Mapping[str, Any]) -> str:
    """Return vendor and scanner that a feature file's header tells, or an empty text.

    >>> scanner_of({"facts": {"vendor": "aperio", "scanner": "SS1302"}}), scanner_of({})
    ('aperio SS1302', '')
    """
    facts = header.get("facts") or {}
    vendor, scanner = str(facts.get("vendor", "")), str(facts.get("scanner", ""))
    named = scanner and scanner.casefold().startswith(vendor.casefold())
    return scanner if named else f"{vendor} {scanner}".strip()


def group_columns(
    manifest: Manifest, *, scanners: Mapping[str, str], wanted: Sequence[str] | None
) -> dict[str, dict[str, str]]:
    """Return by column each slide's value; a column of the manifest called scanner replaces the files' own.

    Args:
        manifest: every slide.
        scanners: by slide what its file tells of the scanner.
        wanted: names of columns; None: those that `EvaluateSettings.subgroups` describes.

    Raises:
        BadInput: a column that is not there.
    """
    columns = {
        SITE: {row.slide_id: row.site for row in manifest.rows},
        SCANNER: {row.slide_id: scanners.get(row.slide_id, "") for row in manifest.rows},
        **_extra_columns(manifest.rows),
    }
    if wanted is None:
        return {name: values for name, values in columns.items() if _tells_apart(name, values)}
    absent = [name for name in wanted if name not in columns]
    if absent:
        raise BadInput(
            f"evaluate.subgroups: {unknown_name('column', absent[0], sorted(columns))}; "
            f"not in the manifest: {listed(absent)}"
        )
    return {name: columns[name] for name in wanted}


def _extra_columns(rows: Sequence[SlideRow]) -> dict[str, dict[str, str]]:
    columns: dict[str, dict[str, str]] = {}
    for row in rows:
        for name, cell in row.extra:
            columns.setdefault(name, {})[row.slide_id] = cell
    return columns


def _tells_apart(name: str, values: Mapping[str, str]) -> bool:
    found = len({value for value in values.values() if value})
    return found >= 2 and (found <= MAX_VALUES or name in {SITE, SCANNER})  # noqa: PLR2004 - two groups
