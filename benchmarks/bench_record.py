"""What a benchmark leaves for docs/performance.md: its tables in raw numbers, the machine and the command.

    publish_json(path, bench_record("read_tiles", settings, tables={"ways": measured_table(columns, rows)}))

benchmarks/performance_page.py prints them; a figure is formatted there and nowhere else.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict

from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.provenance import stamp

Value: TypeAlias = str | int | float | None
"""Of a cell; None: not measured."""
TOLD_VARIABLES: Final = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_CPU_FACTS = Path("/proc/cpuinfo")


class MeasuredTable(TypedDict):
    """One table of the page."""

    columns: dict[str, str]
    """By heading: the format specification of its numbers; empty where the cells are text."""
    rows: list[list[Value]]


def measured_table(columns: Mapping[str, str], rows: Sequence[Sequence[Value]]) -> MeasuredTable:
    """Put rows below columns; numbers stay as they were measured.

    >>> measured_table({"way": "", "tiles/s": ",.0f"}, [("ours", 4608.2), ("cuCIM", None)])["rows"]
    [['ours', 4608.2], ['cuCIM', None]]

    Raises:
        ValueError: a row that has not one cell a column, or a format that a number cannot have.
    """
    for heading, how in columns.items():
        try:
            format(1.0, how)
        except ValueError as error:
            raise ValueError(f"column {heading!r}: {how!r} formats no number ({error})") from None
    wrong = [row for row in rows if len(row) != len(columns)]
    if wrong:
        raise ValueError(f"a row has {len(wrong[0])} cells, expected {len(columns)}: {wrong[0]}")
    return {"columns": dict(columns), "rows": [list(row) for row in rows]}


def bench_record(
    name: str, settings: Mapping[str, Any], *, tables: Mapping[str, MeasuredTable], **facts: object
) -> dict[str, Any]:
    """Return what a benchmark publishes as JSON.

    Args:
        name: of the benchmark, the name of its script.
        settings: what it was asked for, JSON values.
        tables: by name.
        **facts: all else that it measured.
    """
    return {
        **stamp(name, settings),
        "machine": machine_facts(),
        "command": command_line(sys.argv),
        "tables": dict(tables),
        **facts,
    }


def machine_facts() -> dict[str, Any]:
    """Name the processor, the cores in use and, where torch is loaded and sees one, the GPU."""
    torch = sys.modules.get("torch")
    has_gpu = torch is not None and torch.cuda.is_available()
    return {
        "cpu": cpu_name(_CPU_FACTS.read_text(encoding="utf-8") if _CPU_FACTS.is_file() else ""),
        "cores": usable_cpus(),
        "gpu": torch.cuda.get_device_name() if torch is not None and has_gpu else "",
    }


def cpu_name(facts: str) -> str:
    r"""Find the processor's name in the text of /proc/cpuinfo.

    >>> cpu_name("processor: 0\nmodel name\t: AMD EPYC 9B14\n")
    'AMD EPYC 9B14'
    """
    lines = (line.partition(":") for line in facts.splitlines())
    return next(
        (value.strip() for key, _, value in lines if key.strip() == "model name"), "unknown processor"
    )


def command_line(arguments: Sequence[str]) -> str:
    """Write the command that ran, as it is typed in the checkout; folders outside it are cut to their names.

    >>> command_line(["/home/me/benchmarks/read_tiles.py", "--data", "/mnt/slides", "--json", "a.json"])
    'python benchmarks/read_tiles.py --data slides'
    """
    kept: list[str] = []
    skip = False
    for argument in arguments[1:]:
        if not skip and argument != "--json":
            kept.append(Path(argument).name if Path(argument).is_absolute() else argument)
        skip = argument == "--json"
    told = [f"{name}={os.environ[name]}" for name in TOLD_VARIABLES if name in os.environ]
    return " ".join([*told, "python", f"benchmarks/{Path(arguments[0]).name}", *kept])
