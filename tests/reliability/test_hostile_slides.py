"""G1: every hostile slide ends with its status and one line; no traceback, no signal, no endless read.

Each command runs in a child with a gigabyte more memory than it begins with, for a minute at most.
"""

import re

import pytest
from clean_forks import CleanForks, Done
from hostile_cases import TIFFS, Case
from hostile_other_cases import NOT_TIFFS

ALL = TIFFS | NOT_TIFFS
FEW = {
    name: ALL[name]
    for name in (
        *("magic alone", "cut at 50 %", "a directory that follows itself", "65,535 entries"),
        *("both 2^31-1", "tiles of 9 GiB", "a tile of 2 GiB in a file of 100 kB", "2^31 offsets"),
        *("a JPEG header before noise", "NaN um/px"),
        *("a billion laughs", "a line break in the name", "MIRAX of 2^31 images a row"),
    )
}


@pytest.mark.parametrize(
    "cases", [pytest.param(FEW, id="few"), pytest.param(ALL, id="all", marks=pytest.mark.reliability)]
)
def test_every_hostile_slide_ends_with_its_status_and_one_line(tmp_path, cases, record_property):
    wrong = {}
    with CleanForks(tmp_path) as forks:
        for number, (name, case) in enumerate(cases.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = case.make(folder)
            done = forks.command("info", "--tile-px", "64", "--tile-mpp", "0.5", "--", path)
            if fault := fault_of(done, case):
                wrong[name] = (fault, done)
    record_property("figure", f"G1: {len(cases)} hostile slides, {len(wrong)} with another end than named")
    assert wrong == {}
    assert len(ALL) >= 100


def fault_of(done: Done, case: Case) -> str:
    """Say what differs from what was expected."""
    lines = dict(line.split(":", 1) for line in done.out.splitlines() if ":" in line)
    if done.code != case.code:
        return f"exit code {done.code}"
    if "Traceback" in done.out + done.err:
        return "a traceback"
    if lines.get("status", "").strip() != case.status:
        return f"status {lines.get('status')}"
    told = done.err if case.code == 2 else lines.get("reason", "")
    if not re.search(case.words, told):
        return f"said {told!r}"
    at_end = {0: "", 1: r"wsi-kd: error: 1 of 1 slides cannot be used: \S+\n", 2: r"wsi-kd: error: [^\n]+\n"}
    return "" if re.fullmatch(at_end[case.code], done.err) else f"said {done.err!r}"


@pytest.mark.reliability
def test_the_harness_sees_signals_and_endless_work(tmp_path):
    with CleanForks(tmp_path) as forks:
        assert forks.call("abort", []).code == -6
        assert forks.call("sleep", [], limit_s=1).code == -14
        assert "MemoryError" in forks.call("swell", []).err
