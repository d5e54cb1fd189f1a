"""Links of the documentation lead somewhere; settings, targets, files and options that it names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from wsi_kd.settings.all import Settings
from wsi_kd.settings.base import Section

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SECTIONS = set(Settings.model_fields)
FILE_ENDINGS = {"csv", "yaml", "json"}
"""`qc.csv` and `slides.yaml` are files, no settings of the sections qc and slides."""
CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def heading_anchors(text: str) -> set[str]:
    """Anchors as GitHub makes them: lower case, no signs, spaces to dashes, the second of a name `-1`."""
    anchors: set[str] = set()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} (.+)$", prose, flags=re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        while name in anchors:
            stem, _, number = name.rpartition("-")
            name = f"{stem}-{int(number) + 1}" if stem and number.isdigit() else f"{name}-1"
        anchors.add(name)
    return anchors


def broken_links(page: Path, text: str) -> list[str]:
    found = []
    for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", CODE.sub("", text)):
        file, _, anchor = link.partition("#")
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        target = (page.parent / file) if file else page
        known = heading_anchors(target.read_text("utf-8")) if anchor and target.exists() else {anchor}
        if not target.exists() or anchor not in known:
            found.append(link)
    return found


def is_setting(name: str) -> bool:
    section: type[Section] = Settings
    for part in name.split("."):
        field = section.model_fields.get(part) if issubclass(section, Section) else None
        if field is None:
            return False
        section = field.annotation if isinstance(field.annotation, type) else object
    return True


def named_settings(text: str) -> Iterator[str]:
    for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", text):
        if name.partition(".")[0] in SECTIONS and name.rpartition(".")[2] not in FILE_ENDINGS:
            yield name


def blocks(text: str) -> Iterator[str]:
    """Fenced and indented blocks, without their marks."""
    yield from re.findall(r"^```ya?ml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, flags=re.MULTILINE):
        yield re.sub(r"^ {4}", "", block, flags=re.MULTILINE)


def settings_blocks() -> list[tuple[str, dict[str, object]]]:
    found = []
    for page in PAGES:
        for block in blocks(page.read_text("utf-8")):
            if not re.match(r"\n*[a-z_]+:\s*(?:#.*)?\n", block):
                continue
            value = yaml.safe_load(block)
            if isinstance(value, dict) and set(value) <= SECTIONS:
                found.append((page.name, value))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text("utf-8")) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One `thing`, two\n\n## [Same](b.md)\n\n## Same\n\n```\n# no heading\n```\n", "utf-8")
    assert heading_anchors(page.read_text("utf-8")) == {"one-thing-two", "same", "same-1"}
    text = "[a](#one-thing-two) [b](#no-heading) [c](b.md) [d](a.md#same-1) `[e](f.md)` [g](https://x.y)"
    assert broken_links(page, text) == ["#no-heading", "b.md"]


def test_every_setting_that_is_named_exists() -> None:
    named = [(page.name, name) for page in PAGES for name in named_settings(page.read_text("utf-8"))]
    assert len(named) > 100
    of_distill = {"train.criteria"}  # of `wsi-kd distill`, whose file has a section train of its own
    assert [(page, name) for page, name in named if not is_setting(name) and name not in of_distill] == []
    assert not is_setting("tile.tile_pxx")
    assert not is_setting("tile.tile_px.more")


def test_settings_that_are_shown_are_taken() -> None:
    shown = settings_blocks()
    assert len(shown) > 10
    for page, value in shown:
        assert Settings.model_validate(value), page


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text("utf-8"), flags=re.MULTILINE))
        assert named - targets == set(), page.name


def test_tests_and_benchmarks_that_are_named_exist() -> None:
    for page in PAGES:
        named = set(re.findall(r"(?<![\w/])(?:tests|benchmarks)/[\w/]+\.py", page.read_text("utf-8")))
        assert [name for name in named if not (ROOT / name).exists()] == [], page.name


def benchmark_commands() -> list[tuple[str, str, str]]:
    found = set()
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text("utf-8"))
        for name, rest in re.findall(r"benchmarks/(\w+)\.py((?: [^`\n#;|]*)?)", text):
            found.update((page.name, name, option) for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest))
    return sorted(found)


def test_options_of_benchmarks_that_are_named_exist() -> None:
    told = benchmark_commands()
    assert len(told) > 20
    source = {path.stem: path.read_text("utf-8") for path in (ROOT / "benchmarks").glob("*.py")}
    unknown = []
    for page, name, option in told:
        declared = f'"(?:--)?{option[2:]}"'  # several build theirs from a list of names
        if not re.search(declared, source[name]):
            unknown.append((page, name, option))
    assert unknown == []
