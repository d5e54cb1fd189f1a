"""The viewer's own files: text stays text, nothing is loaded from elsewhere, the vendored part is named."""

import re
from pathlib import Path

import pytest

from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.viewer.app import STATIC, static_files

VENDORED = "openseadragon.min.js"
SCRIPTS = sorted(path for path in STATIC.glob("*.js") if path.name != VENDORED)
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|\beval\b|new Function|setTimeout\(\s*[\"'`]|javascript:"
)
"""What would turn text into markup or into a program."""


def index() -> str:
    return (STATIC / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("box.innerHTML = slide.slide_id;", True),
        ('setTimeout("run()", 5);', True),
        ("setTimeout(() => run(), 5);", False),
        ("box.textContent = slide.slide_id;", False),
    ],
)
def test_the_rule_on_markup_sees_what_it_should(line: str, refused: bool) -> None:
    assert bool(MARKUP.search(line)) is refused


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_strict_and_make_no_markup(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == '"use strict";'
    assert len(lines) <= 300
    assert [line for line in lines if MARKUP.search(line)] == []


def test_the_page_loads_every_script_once_and_nothing_from_elsewhere() -> None:
    loaded = re.findall(r'(?:src|href)="([^"]*)"', index())
    scripts = [name.removeprefix("static/") for name in loaded if name.endswith(".js")]
    assert sorted(scripts) == sorted([VENDORED, *(path.name for path in SCRIPTS)])
    assert [name for name in loaded if not name.startswith(("static/", "data:,"))] == []
    assert {name.removeprefix("static/") for name in loaded} - {"data:,"} <= set(static_files())


def test_the_page_needs_no_inline_script_or_style() -> None:
    page = index()
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\sstyle=|\son\w+=", page) == []
    assert RESEARCH_ONLY in page


def test_the_documentation_names_every_key() -> None:
    named = re.findall(r'keys: \["([^"]+)"', (STATIC / "keys.js").read_text(encoding="utf-8"))
    told = (STATIC.parents[2] / "docs" / "viewer.md").read_text(encoding="utf-8")
    assert len(named) > 20
    assert [key for key in named if f"`{key}`" not in told and not key.startswith("Arrow")] == []


def test_the_vendored_file_is_the_named_version_with_its_license() -> None:
    header = (STATIC / VENDORED).read_text(encoding="utf-8")[:200]
    version = re.search(r"openseadragon (\d+\.\d+\.\d+)", header)
    told = (STATIC / "openseadragon.txt").read_text(encoding="utf-8")
    assert version is not None
    assert f"OpenSeadragon {version[1]}, " in told
    assert f"openseadragon@{version[1]};" in told
    notice = (STATIC / "openseadragon.LICENSE.txt").read_text(encoding="utf-8")
    assert "Redistributions in binary form must reproduce the above copyright notice" in notice
