"""G13: a fault in a table, in settings or in a drawing is one line with its place; nothing is written."""

import resource
from pathlib import Path

import pytest
from bad_files import GEOJSON, GOOD_ROWS, SETTINGS, SPLITS, TABLES, XML, Bad
from ends_soon import ends_soon

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.cli.app import run
from wsi_kd.cli.plan import read_plan
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.yaml_text import load_yaml

EVERY = (*TABLES, *SPLITS, *SETTINGS, *GEOJSON, *XML)
MIB = 2**20


def named(cases: tuple[Bad, ...]) -> list[object]:
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with empty slides; a command that reads one would fail otherwise."""
    for row in (*GOOD_ROWS, "x"):
        (tmp_path / f"{row.partition(',')[0]}.tif").touch()
    (tmp_path / "slides.csv").write_bytes(
        b"slide_id,label,path\n"
        + b"".join(f"{row},{row.partition(',')[0]}.tif\n".encode() for row in GOOD_ROWS)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that must refuse its input; return its one line."""
    before = sorted(Path().rglob("*"))
    code = run(arguments)
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("wsi-kd: error: ")
    assert (said.err.count("\n"), "Traceback" in said.err) == (1, False)
    assert sorted(Path().rglob("*")) == before  # nothing was begun
    return said.err


def check(line: str, case: Bad, file: str) -> None:
    assert file in line
    missing = [word for word in case.words if word not in line]
    assert missing == [], line
    assert len(line) < 4000


@pytest.mark.parametrize("case", named(TABLES))
def test_a_bad_manifest(folder: Path, capsys, case: Bad) -> None:
    (folder / "bad.csv").write_bytes(case.content)
    (folder / "my.yaml").write_text("run: {manifest: bad.csv, results_dir: out, classes: [normal, tumor]}\n")
    check(told(capsys, ["mask", "--config", "my.yaml"]), case, "bad.csv")


@pytest.mark.parametrize("case", named(SPLITS))
def test_a_manifest_whose_parts_leak_or_lack_a_class(folder: Path, case: Bad) -> None:
    (folder / "bad.csv").write_bytes(case.content)
    with pytest.raises(BadInput) as raised:
        read_plan({"run": {"manifest": "bad.csv", "results_dir": "out"}})
    assert [word for word in case.words if word not in str(raised.value)] == []
    assert "\n" not in str(raised.value)


def test_a_billion_folds_are_refused_before_they_are_drawn(folder: Path) -> None:
    with ends_soon(), pytest.raises(BadInput, match="folds"):
        read_plan({"run": {"manifest": "slides.csv"}, "split": {"folds": 1_000_000_000}})


@pytest.mark.parametrize("case", named(SETTINGS))
def test_bad_settings(folder: Path, capsys, case: Bad) -> None:
    (folder / "bad.yaml").write_bytes(case.content)
    file = "slides.csv" if "manifest" in case.name else "bad.yaml"
    check(told(capsys, ["mask", "--config", "bad.yaml"]), case, file)


@pytest.mark.parametrize("case", named(GEOJSON))
def test_a_bad_geojson(folder: Path, capsys, case: Bad) -> None:
    (folder / "bad.geojson").write_bytes(case.content)
    check(
        told(capsys, ["annotations", "convert", "bad.geojson", "out.xml", "--to", "asap"]),
        case,
        "bad.geojson",
    )


@pytest.mark.parametrize("case", named(XML))
def test_a_bad_xml(folder: Path, capsys, case: Bad) -> None:
    (folder / "bad.xml").write_bytes(case.content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ends_soon():
        line = told(capsys, ["annotations", "convert", "bad.xml", "out.geojson"])
    check(line, case, "bad.xml")
    assert "root:" not in line
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 500 * MIB  # bombs: 3 GB


def test_what_is_odd_and_fine(folder: Path) -> None:
    """A mark, Windows' line ends, tabs, spaces around a label, words that YAML leaves alone."""
    (folder / "odd.csv").write_bytes(
        b"\xef\xbb\xbfslide_id,label,path\r\n n0 , tumor ,n0.tif\r\ncon,normal,n1.tif\r\n\r\n"
        b"1e3,normal,t0.tif\r\n012,normal,t1.tif"
    )
    rows = read_manifest(folder / "odd.csv", slides_dir=None, classes=()).rows
    assert [(row.slide_id, row.label) for row in rows] == [
        ("n0", "tumor"),
        ("con", "normal"),
        ("1e3", "normal"),
        ("012", "normal"),
    ]
    assert load_yaml("a: 1e3\nb: '012'\nc: 'no'") == {"a": "1e3", "b": "012", "c": "no"}


def test_how_many_there_are(record_property) -> None:
    assert len(EVERY) >= 80
    assert len({(case.name, case.content, case.words) for case in EVERY}) == len(EVERY)
    record_property(
        "figure", f"G13: {len(EVERY)} bad tables, settings and drawings: one line each, nothing written"
    )
