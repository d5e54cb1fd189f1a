"""Commands reproduce and methods: what is printed, which exit code, nothing heavy before it is needed."""

import json
from pathlib import Path

import pytest
from drawn_claims import bad, drawn_claim, good, hostile_claim, undefined

from wsi_kd.cli.app import run
from wsi_kd.kd.registry import LOSSES, METHODS, TOOLS
from wsi_kd.steps import reproduce


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [drawn_claim(claim) for claim in (good, bad, undefined)]
    monkeypatch.setattr(reproduce, "CLAIMS", {claim.method: claim for claim in [*claims, hostile_claim()]})
    monkeypatch.setattr(reproduce, "code_hash", lambda: "0" * 64)  # an editor saves while the test runs
    monkeypatch.setenv("COLUMNS", "120")


def test_a_claim_that_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "good", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "good  (Nobody, Nowhere 2020, arXiv 0000.00000; 3 seeds, 0.0 s)" in out
    assert "paper claim: distillation helps" in out
    assert "0.810 ± 0.010" in out
    assert "at most 1e-12" in out
    assert "pass (2 of 2)" in out
    assert "no reproduction of the papers' ImageNet or CIFAR tables" in out
    assert f"page: {tmp_path / 'index.html'}" in out
    assert "FAIL" not in out


def test_a_claim_that_is_not_seen_is_named_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reproduce", "bad", "good", "--out", str(tmp_path), "--seeds", "1"]) == 1
    said = capsys.readouterr()
    assert "FAIL (1 of 2)" in said.out
    assert "KD (few)" in said.out
    assert "wsi-kd: error: 1 of 4 checks failed: bad: KD - CE; see" in said.err
    assert said.err.count("\n") == 1
    assert json.loads((tmp_path / "claims.json").read_text())["settings"]["seeds"] == {"good": 1, "bad": 1}


def test_a_kept_claim_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "good", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert run(["reproduce", "good", "--out", str(tmp_path)]) == 0
    assert "0.0 s, kept from an earlier run)" in capsys.readouterr().out


def test_charts_are_written_where_asked_and_stay_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "figures"
    asked = ["reproduce", "good", "undefined", "--out", str(tmp_path), "--plots", str(folder)]
    assert run(asked) == 1  # one claim is not seen; its neighbor's chart is drawn all the same
    assert f"chart: {folder / 'good.svg'}" in capsys.readouterr().out
    first = (folder / "good.svg").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["good.svg"]
    assert b">samples<" in first
    assert b">accuracy<" in first
    run(asked)
    assert (folder / "good.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["godo"], "unknown claim check 'godo'; known: bad, good, hostile, undefined (did you mean 'good'?)"),
        (["good", "--seeds", "0"], "--seeds 0: expected 1 or more"),
        (["good", "--processes", "0"], "--processes 0: expected 1 or more"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys, tmp_path: Path) -> None:
    assert run(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_hostile_text_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "hostile", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "[red]" in said.out
    assert "\x07" not in said.out


def test_methods_lists_every_method_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed["methods"]] == list(METHODS)
    assert [entry["name"] for entry in listed["tools"]] == list(TOOLS)
    assert [entry["name"] for entry in listed["losses"]] == sorted(LOSSES)
    assert listed["methods"][0]["checked_by"] == f"wsi-kd reproduce {next(iter(METHODS))}"


def test_methods_as_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert run(["methods"]) == 0
    out = capsys.readouterr().out
    for name in (*METHODS, *TOOLS):
        assert f"wsi-kd reproduce {name}" in out
    assert "InfoNCE between learned embeddings" in out
