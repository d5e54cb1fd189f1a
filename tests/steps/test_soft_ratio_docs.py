"""The code in docs/kd_theory.md that suggests a soft ratio for a run's slides does so on a run."""

import re
from pathlib import Path
from xml.etree import ElementTree

from scored_runs import Run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "kd_theory.md").read_text(encoding="utf-8")


def test_code_of_the_page_suggests_a_ratio_for_a_runs_slides(tmp_path, monkeypatch):
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "predictions" in block
    )
    made = Run(tmp_path / "results" / "crc", classes=("benign", "cancer"))
    for fold in range(2):
        made.predict("abmil", fold=fold)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)  # our own page
    suggestion = names["suggestion"]
    assert len(names["slides"]) == 15
    assert suggestion.best in suggestion.tried
    chart = ElementTree.parse(tmp_path / "soft_ratio.svg").getroot()
    told = {"".join(element.itertext()) for element in chart.iter("{http://www.w3.org/2000/svg}text")}
    assert f"suggested: {suggestion.best.soft_ratio:g}" in told
