"""Step reproduce: what is written, what is kept, what stops it."""

import json
import os
from pathlib import Path

import pytest
from drawn_claims import (
    COUNTED,
    bad,
    broken,
    counted,
    drawn_claim,
    good,
    hostile_claim,
    killed,
    unchecked,
    undefined,
)

from wsi_kd.claims.claim import Claim
from wsi_kd.claims.measured import to_json
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import read_json
from wsi_kd.steps import reproduce
from wsi_kd.steps.reproduce import Reproduced, check_reproduced, chosen_claims, run_reproduce

hash_of_sources = reproduce.code_hash


@pytest.fixture(autouse=True)
def _still_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor may save a source while a test runs."""
    monkeypatch.setattr(reproduce, "code_hash", lambda: "f" * 64)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a letter for every run of the claim `counted`."""
    path = tmp_path / "calls"
    path.touch()
    monkeypatch.setenv(COUNTED, str(path))
    return path


def reproduced(claims: list[Claim], out_dir: Path, **changes) -> Reproduced:
    options = {"seeds": None, "processes": 1, "tell": lambda _: None} | changes
    return run_reproduce(claims, out_dir=out_dir, **options)


def test_every_claim_is_written_as_it_finishes_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    told = []
    there = []

    def tell(one) -> None:
        told.append(one.claim.method)
        there.append(sorted(path.name for path in tmp_path.iterdir()))

    done = reproduced([drawn_claim(good), drawn_claim(bad)], tmp_path, tell=tell)
    assert told == ["good", "bad"]
    assert there == [["good.json"], ["bad.json", "good.json"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bad.json",
        "claims.json",
        "good.json",
        "index.html",
    ]
    one = read_json(tmp_path / "good.json", remake="")
    assert one["settings"]["seeds"] == 3
    assert one["observed"][0]["mean"] == pytest.approx(0.81)
    assert one["paper"].endswith("arXiv 0000.00000")
    every = read_json(tmp_path / "claims.json", remake="")
    assert [claim["method"] for claim in every["claims"]] == ["good", "bad"]
    assert every["passed"] is False
    assert "torch" in every["versions"]
    with pytest.raises(RunFailed, match=r"1 of 4 checks failed: bad: KD - CE; see .*index.html"):
        check_reproduced(done)


def test_all_checks_that_hold_are_no_error(tmp_path: Path) -> None:
    check_reproduced(reproduced([drawn_claim(good)], tmp_path))
    assert read_json(tmp_path / "claims.json", remake="")["passed"] is True


def test_a_claim_that_checked_nothing_or_found_no_number_fails(tmp_path: Path) -> None:
    done = reproduced([drawn_claim(undefined), drawn_claim(unchecked)], tmp_path)
    with pytest.raises(RunFailed, match="undefined: KD - CE; unchecked: no check"):
        check_reproduced(done)
    assert json.loads((tmp_path / "undefined.json").read_text())["observed"][0]["mean"] == "nan"
    assert "nan" in (tmp_path / "index.html").read_text()


def test_what_an_earlier_run_left_is_kept(tmp_path: Path, calls: Path) -> None:
    out_dir = tmp_path / "out"
    first = reproduced([drawn_claim(counted)], out_dir)
    page = (out_dir / "index.html").read_bytes()
    second = reproduced([drawn_claim(counted)], out_dir)
    assert calls.read_text() == "x"
    assert [one.kept for one in (*first.finished, *second.finished)] == [False, True]
    assert to_json(second.finished[0].measured) == to_json(first.finished[0].measured)
    assert (out_dir / "index.html").read_bytes() == page


def test_a_stopped_run_goes_on(tmp_path: Path, calls: Path) -> None:
    out_dir = tmp_path / "out"
    with pytest.raises(BadInput, match="3 seeds: no data"):
        reproduced([drawn_claim(counted), drawn_claim(broken)], out_dir)
    assert not (out_dir / "claims.json").exists()
    done = reproduced([drawn_claim(counted), drawn_claim(good)], out_dir)
    assert calls.read_text() == "x"
    assert [one.kept for one in done.finished] == [True, False]


def test_other_seeds_other_code_or_a_damaged_file_run_again(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = tmp_path / "out"
    reproduced([drawn_claim(counted)], out_dir)
    more = reproduced([drawn_claim(counted)], out_dir, seeds=5)
    assert calls.read_text() == "xx"
    assert more.finished[0].measured.seeds == 5
    monkeypatch.setattr(reproduce, "code_hash", lambda: "0" * 64)
    reproduced([drawn_claim(counted)], out_dir, seeds=5)
    assert calls.read_text() == "xxx"
    path = out_dir / "counted.json"
    path.write_text(path.read_text().replace('"seeds": 5', '"seeds": 6'))
    reproduced([drawn_claim(counted)], out_dir, seeds=5)
    assert calls.read_text() == "xxxx"


def test_the_code_hash_is_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hash_of_sources()
    assert len(whole) == 64
    monkeypatch.setattr(reproduce, "CODE", ("claims", "kd"))
    assert hash_of_sources() != whole


@pytest.mark.slow
def test_several_processes_give_the_order_and_figures_of_one(tmp_path: Path, calls: Path) -> None:
    claims = [drawn_claim(good), drawn_claim(counted), drawn_claim(bad)]
    one = reproduced(claims, tmp_path / "one")
    two = reproduced(claims, tmp_path / "two", processes=2)
    assert [finished.claim.method for finished in two.finished] == ["good", "counted", "bad"]
    assert two.finished[0].measured.found.checks == one.finished[0].measured.found.checks
    processes = [run.finished[1].measured.found.observed[0].mean for run in (one, two)]
    assert processes[0] == os.getpid()
    assert processes[1] != os.getpid()
    assert calls.read_text() == "xx"


@pytest.mark.slow
def test_a_killed_process_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"want of memory.*fewer --processes"):
        reproduced([drawn_claim(killed), drawn_claim(good)], tmp_path, processes=2)


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"processes": 0}, {"seeds": -1}])
def test_none_is_refused(tmp_path: Path, changes: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="expected 1 or more"):
        reproduced([drawn_claim(good)], tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_had_stops_it_first(tmp_path: Path, calls: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="no such folder can be made"):
        reproduced([drawn_claim(counted)], tmp_path / "file" / "out")
    assert calls.read_text() == ""


def test_claims_are_chosen_by_name_in_the_registry_s_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "CLAIMS", {run.__name__: drawn_claim(run) for run in (good, bad, counted)})
    assert [claim.method for claim in chosen_claims([])] == ["good", "bad", "counted"]
    assert [claim.method for claim in chosen_claims(["counted", "good"])] == ["good", "counted"]
    with pytest.raises(BadInput, match=r"unknown claim check 'godo'; known: .*did you mean 'good'"):
        chosen_claims(["bad", "godo"])


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    reproduced([hostile_claim()], tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "\u202e" not in page
    assert "\x07" not in page
