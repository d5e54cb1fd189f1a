"""A file that kills the HDF5 library ends its own slide, not the cohort."""

import os
import signal
import time

import numpy as np
import pytest
from given_features import draw_features, write_trident

from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.features import crash_probe
from wsi_kd.features.crash_probe import refuse_what_crashes, survives
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.steps.status import read_status


def test_only_a_signal_counts_as_a_crash():
    seen = []
    assert survives(lambda: seen.append("in the child"))
    assert survives(lambda: 1 / 0)
    assert not survives(lambda: os.kill(os.getpid(), signal.SIGSEGV))
    assert not survives(lambda: time.sleep(30), limit_s=1)
    assert seen == []


def test_a_whole_and_an_absent_file_pass(tmp_path):
    refuse_what_crashes(write_trident(tmp_path, "s", draw_features(0)))
    refuse_what_crashes(tmp_path / "absent.h5")


def test_a_crashing_file_is_unreadable_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    for slide_id in ("a", "bad", "c"):
        write_trident(tmp_path / "given", slide_id, draw_features(0))
    look = crash_probe._look_over

    def crash_on_one(path):
        if path.name == "bad.h5":
            os.kill(os.getpid(), signal.SIGSEGV)
        look(path)

    monkeypatch.setattr(crash_probe, "_look_over", crash_on_one)
    assert run(["features", "convert", str(tmp_path / "given"), str(tmp_path / "out")]) == 0
    rows = read_status(tmp_path / "out/status.csv")
    assert [row.status for row in rows] == ["ok", "unreadable", "ok"]
    assert "crashes or hangs on it" in rows[1].reason
    assert run(["features", "verify", str(tmp_path / "given")]) == 1
    assert "1 of 3 files are wrong" in capsys.readouterr().err


@pytest.mark.slow
def test_no_mutated_file_ends_the_process(tmp_path):
    """A few hundred seeded faults: each is read, or told in one line."""
    path = write_trident(tmp_path, "s", draw_features(0, tiles=300))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    told = []
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(0, 4096, int(rng.choice([1, 4, 16]))):
            content[place] = int(rng.integers(0, 256))
        path.write_bytes(
            content[: len(content) if rng.random() < 0.7 else int(rng.integers(1, len(content)))]
        )
        try:
            read_foreign_features(path)
        except BadInput as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(message.startswith(str(path)) and "\n" not in message for message in told)
