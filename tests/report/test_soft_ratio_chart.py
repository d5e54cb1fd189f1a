"""Charts as files: equal figures give equal bytes, in whatever process; what they show is there."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch

from wsi_kd.claims.claim import Found, Series
from wsi_kd.claims.measured import Measured
from wsi_kd.kd.soft_ratio import Setting, Suggestion
from wsi_kd.report.claims import claim_svg
from wsi_kd.report.soft_ratio import soft_ratio_svg

SVG = "{http://www.w3.org/2000/svg}"
TRIED = [Setting(1.0, 1.0, 0.3, 0.05, 0.6)] + [
    Setting(ratio, temperature, error, 0.05, 0.6)
    for temperature, errors in ((1.0, (0.2, 0.1, 0.15)), (4.0, (0.28, 0.22, 0.18)))
    for ratio, error in zip((0.8, 0.4, 0.05), errors, strict=True)
]
SUGGESTION = Suggestion(TRIED[2], TRIED, 0.25)
FOUND = Found(
    [],
    [],
    [Series("wide <b>", (1.0, 2.0, 64.0), (0.5, 0.25, float("nan"))), Series("narrow", (1.0,), (0.4,))],
    x_label="neurons left",
    y_label="error",
)
AGAIN = """
import torch
from test_soft_ratio_chart import FOUND, SUGGESTION
from wsi_kd.claims.measured import Measured
from wsi_kd.report.claims import claim_svg
from wsi_kd.report.soft_ratio import soft_ratio_svg
import sys
sys.stdout.buffer.write((claim_svg(Measured("drawn", 1, 0.0, FOUND)) + soft_ratio_svg(SUGGESTION)).encode())
"""


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_charts_are_the_same_bytes_in_another_process(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONPATH", f"{__file__.rsplit('/', 1)[0]}:{':'.join(filter(None, sys.path))}")
    other = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, check=True, timeout=300).stdout
    here = claim_svg(Measured("drawn", 1, 0.0, FOUND)) + soft_ratio_svg(SUGGESTION)
    assert other == here.encode()
    assert b"dc:date" not in other


def test_claims_chart_shows_its_lines_as_text():
    svg = claim_svg(Measured("drawn", 1, 0.0, FOUND))
    assert {"wide <b>", "narrow", "neurons left", "error"} <= set(texts(svg))
    other = Found(
        [], [], [FOUND.series[0]._replace(y=(0.5, 0.3, 0.1))], x_label="neurons left", y_label="error"
    )
    assert claim_svg(Measured("drawn", 1, 0.0, other)) != svg
    assert claim_svg(Measured("drawn", 1, 0.0, Found([], []))) is None


def test_soft_ratio_has_a_line_a_temperature_and_names_what_it_suggests():
    told = texts(soft_ratio_svg(SUGGESTION))
    assert {"temperature 1", "temperature 4", "the teacher itself", "suggested: 0.4"} <= set(told)
    assert {"soft ratio", "held-out error"} <= set(told)


def test_file_stands_on_its_own():
    root = ElementTree.fromstring(soft_ratio_svg(SUGGESTION))
    assert root.tag == f"{SVG}svg"
    assert root.attrib["color"].startswith("#")
    assert root[0].attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}
    named = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    used = {value[1:] for element in root.iter() for key, value in element.attrib.items() if key == "href"}
    assert used
    assert used <= named


@pytest.mark.parametrize("temperatures", [(1.0,), (2.0, 4.0)])
def test_soft_ratio_one_is_on_every_line(temperatures):
    torch.manual_seed(0)
    tried = [TRIED[0]._replace(temperature=temperatures[0])]
    tried += [TRIED[1]._replace(temperature=temperature) for temperature in temperatures]
    root = ElementTree.fromstring(soft_ratio_svg(Suggestion(tried[1], tried, 0.25)))
    lines = [one for one in root.iter(f"{SVG}use") if one.attrib.get("href", "").startswith("#soft-ratio-m")]
    markers = [one for one in lines if "x" in one.attrib]
    assert len(markers) >= 2 * len(temperatures) + 3
