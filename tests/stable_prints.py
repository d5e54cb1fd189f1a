"""What of a run's files is the same in every run: their bytes, less what a clock or a place wrote.

Volatile are, and nothing else: folders `logs` and `benchmarks`, the journal of the slides' times, the column
`seconds` of status tables and the member `energy` beside it, `report/timings.csv`, the item `computation` of
`report/reporting_items.json`, and on the report's page the section and the checklist's row that show these
two; and the hashes of these files.
"""

import csv
import hashlib
import io
import json
import re
from pathlib import Path

FOLDERS = {"logs", "benchmarks"}
FILES = {".wsi-kd.slides.json", "timings.csv", "timings.csv.meta.json"}
CLOCK = "seconds"
_TIMINGS = re.compile(rb'<section id="timings">.*?</section>', re.DOTALL)
_COMPUTATION = re.compile(rb"<tr>\s*<td>Time and memory</td>.*?</tr>", re.DOTALL)


def stable_prints(results_dir: Path) -> dict[str, str]:
    """The sha256 of every file below a run's folder, by its path there, less what is volatile."""
    found = {}
    for path in sorted(results_dir.rglob("*")):
        place = path.relative_to(results_dir)
        if path.is_file() and not FOLDERS & set(place.parts) and path.name not in FILES:
            found[str(place)] = hashlib.sha256(stable_bytes(path)).hexdigest()
    return found


def stable_bytes(path: Path) -> bytes:
    """A file's bytes without what is volatile in them."""
    content = path.read_bytes()
    if path.name == "reporting_items.json":
        told = json.loads(content)
        del told["content_sha256"], told["items"]["computation"]
        return json.dumps(told).encode()
    if path.name == "index.html" and path.parent.name == "report":
        return _COMPUTATION.sub(b"", _TIMINGS.sub(b"", content))
    if path.suffix == ".csv" and CLOCK in _columns(path):
        rows = csv.DictReader(io.StringIO(content.decode()))
        return "\n".join(repr({**row, CLOCK: ""}) for row in rows).encode()
    if path.name.endswith(".csv.meta.json") and CLOCK in _columns(
        path.with_name(path.name[: -len(".meta.json")])
    ):
        told = json.loads(content)
        del told["content_sha256"], told["sha256"]
        told.pop("energy", None)
        return json.dumps(told).encode()
    return content


def _columns(table: Path) -> list[str]:
    with table.open(encoding="utf-8") as handle:
        return handle.readline().rstrip("\n").split(",")
