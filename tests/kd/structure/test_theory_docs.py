"""docs/kd_theory.md: its table is the registry, and what it imports is there."""

import re
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

from wsi_kd.kd.registry import TOOLS

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "kd_theory.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
LARGEST_BYTES = 60_000


def test_every_tool_has_a_row():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(TOOLS)


def test_what_is_imported_is_there():
    imports = re.findall(r"^from (wsi_kd\.[\w.]+) import (.+)$", PAGE, re.MULTILINE)
    assert len(imports) >= 4
    for module, names in imports:
        assert all(hasattr(import_module(module), name.strip()) for name in names.split(","))


def test_names_of_the_table_are_there():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `\w+` \|", line)]
    for name in re.findall(r"`([\w.]+)`", " ".join(row.split("|")[3] for row in rows)):
        module, _, attribute = name.partition(".")
        modules = (
            [module]
            if attribute or _is_module(module)
            else ["spectral", "spectral_pruning", "copy_average_init"]
        )
        wanted = attribute or (None if _is_module(module) else module)
        assert any(wanted is None or hasattr(import_module(f"wsi_kd.kd.{one}"), wanted) for one in modules), (
            name
        )


@pytest.mark.parametrize("method", TOOLS)
def test_every_tool_has_its_chart_on_the_page(method: str):
    assert f"](figures/{method}.svg)" in PAGE
    path = DOCS / "figures" / f"{method}.svg"
    assert path.stat().st_size < LARGEST_BYTES
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == f"{SVG}svg"
    named = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert named
    assert all(name.startswith(f"{method}-") for name in named)  # what `wsi-kd reproduce --plots` writes


def _is_module(name: str) -> bool:
    return (Path(__file__).resolve().parents[3] / "wsi_kd" / "kd" / f"{name}.py").is_file()
