"""The example of docs/kd.md runs and says what the page says; its table is the registry."""

import re
from pathlib import Path
from typing import Any

import pytest

from wsi_kd.kd import LOSSES
from wsi_kd.kd.registry import METHODS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "kd.md").read_text(encoding="utf-8")
TOLERANCE = 0.03
"""Other machines round otherwise, and a test part of 497 has its noise."""


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"## Ten lines\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    told = re.search(r"prints `teacher ([\d.]+), student ([\d.]+)`", PAGE)
    assert example
    assert told
    exec(compile(example[1], "docs/kd.md", "exec"), {})
    printed = re.findall(r"[\d.]+", capsys.readouterr().out)
    assert [float(value) for value in printed] == pytest.approx(
        [float(told[1]), float(told[2])], abs=TOLERANCE
    )


def test_the_examples_after_it_run() -> None:
    """In the names of the first one; `loader` is any loader."""
    of_section = {
        title: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        for title, text in re.findall(r"## (.*?)\n(.*?)(?=\n## |\Z)", PAGE, re.DOTALL)
    }
    names: dict[str, Any] = {}
    shorter = of_section["Ten lines"].replace("epochs=10", "epochs=1").replace("epochs=25", "epochs=1")
    exec(compile(shorter, "docs/kd.md", "exec"), names)
    for title in ("Augmentation", "In your own loop", "A teacher of the student's architecture: less noise"):
        assert of_section[title]
        exec(compile(of_section[title], "docs/kd.md", "exec"), names | {"loader": names["train"]})


def test_the_table_is_the_registry() -> None:
    rows = []
    for name, loss in sorted(LOSSES.items()):
        line = (loss.__doc__ or "").splitlines()[0].rstrip(".")
        rows.append(f"| `{name}` | {', '.join(sorted(loss.needs))} | {line} |")
    table = PAGE.split("| name | needs | what it is |\n|---|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == rows


def test_the_table_of_methods_is_the_registry() -> None:
    rows = [
        f"| `{name}` | {method.title} ({method.paper}) | {', '.join(sorted(method.needs))} | {method.what} |"
        for name, method in METHODS.items()
    ]
    table = PAGE.split("| name | method | needs | what it does |\n|---|---|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == rows
