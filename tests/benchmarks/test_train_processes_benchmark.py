"""What the benchmark of several processes makes of what they tell, and that its ways are what it says."""

import json
import threading
from contextlib import nullcontext
from multiprocessing import Pipe
from types import SimpleNamespace

import numpy as np
import pytest

import train_processes
from train_processes import Timed, default_processes, differences, fullest_hand, rows_of, take_turns, timed
from training_workers import (
    Load,
    Task,
    Told,
    Training,
    Workers,
    answer_tasks,
    drawn_bags,
    hand_of,
    meeting_of,
    parts_of,
    settings_of,
)

LOAD = Load("abmil", bags=8, tiles=10, features=6, bags_per_step=4, token_budget=100, epochs=2)


def training(way, processes=2, load=LOAD):
    return Training(load, processes, way, "cpu")


@pytest.fixture
def pool():
    """One worker, in a thread."""
    ours, theirs = Pipe()
    answering = threading.Thread(target=answer_tasks, args=(theirs,))
    answering.start()
    yield Workers([ours])
    ours.close()
    answering.join()


def test_the_slowest_process_counts_and_the_first_epoch_does_not():
    told = [
        Told(clock=[10.0, 15.0, 17.0, 19.0], processor=[0.0, 4.0, 5.0, 6.0], losses=[0.7, 0.6, 0.5]),
        Told(clock=[11.0, 16.0, 19.0, 22.0], processor=[0.0, 1.0, 1.5, 2.0], losses=[0.7, 0.6, 0.5]),
    ]
    # (22 - 16) / 2 an epoch; the first ended at 16, 6 s after the first began, of which an epoch took 3
    assert timed(told) == Timed(start=3.0, epoch=3.0, processor=1.0, losses=[0.7, 0.6, 0.5])


def test_ratios_are_medians_of_ratios_within_a_turn():
    def turn(one, together, in_step, apart):
        seconds = {"one": one, "2 together": together, "2 in step": in_step, "2 apart": apart}
        return {name: Timed(0.5, epoch, epoch / 2, [1.0]) for name, epoch in seconds.items()}

    turns = [turn(4.0, 2.5, 2.2, 2.0), turn(8.0, 5.0, 5.0, 4.0), turn(9.0, 3.0, 3.0, 3.0)]
    alone, two = rows_of(LOAD, [2], turns)
    columns = list(train_processes.COLUMNS)
    assert dict(zip(columns, alone, strict=True))["s an epoch"] == 8.0
    found = dict(zip(columns, two, strict=True))
    assert found["s an epoch"] == 3.0
    assert found["bags/s"] == pytest.approx(8 / 3.0)
    assert found["over one"] == pytest.approx(1.6)  # of 1.6, 1.6 and 3
    assert found["limit"] == 2.0  # of 2, 2 and 3
    assert found["limit, in step"] == pytest.approx(4.0 / 2.2)  # of 1.82, 1.6 and 3
    assert found["of the limit"] == pytest.approx(0.8)  # of 0.8, 0.8 and 1


def test_the_order_of_the_ways_alternates(monkeypatch):
    asked = []
    monkeypatch.setattr(train_processes, "measure", lambda _, one: asked.append((one.processes, one.way)))
    take_turns(SimpleNamespace(), LOAD, [2], device="cpu", turns=2)
    assert asked[:4] == [(1, "together"), (2, "together"), (2, "in step"), (2, "apart")]
    assert asked[4:] == asked[:4][::-1]


def test_hands_hold_every_bag_once_and_both_classes_about_evenly():
    bags = drawn_bags(8, 10, 6)
    hands = [hand_of(bags, rank, 2) for rank in range(2)]
    assert sorted(hands[0] + hands[1]) == sorted(bags.slide_ids)
    parts = [bags.select(hand) for hand in hands]
    assert [sorted(part.labels.tolist()) for part in parts] == [[0, 0, 1, 1]] * 2
    sizes = [len(part.features) for part in parts]
    assert sum(sizes) == len(bags.features)
    assert max(sizes) <= 4 / 3 * sum(sizes) / 2


def test_only_those_that_train_apart_have_less():
    together, in_step, apart = (parts_of(training(way), 1) for way in ("together", "in step", "apart"))
    assert [len(part.labels) for part in together] == [8, 4]
    assert [len(part.labels) for part in in_step] == [len(part.labels) for part in apart] == [4, 2]
    settings = {way: settings_of(training(way)) for way in ("together", "in step", "apart")}
    steps = {way: (one.bags_per_step, one.token_budget) for way, one in settings.items()}
    assert steps == {"together": (4, 100), "in step": (2, 50), "apart": (4, 100)}


def test_only_those_that_train_together_meet(tmp_path):
    meetings = [meeting_of(Task(training(way), 1, tmp_path)) for way in ("together", "in step", "apart")]
    assert meetings[0] == (1, 2, f"file://{tmp_path}/meeting")
    assert meetings[1:] == [None, None]
    assert meeting_of(Task(training("together", processes=1), 0, tmp_path)) is None


def test_the_fullest_hand_is_counted_in_fair_shares(monkeypatch):
    monkeypatch.setattr(train_processes, "drawn_sizes", lambda *_: np.array([5, 1, 1, 1, 2, 2, 2, 2]))
    # the first step deals 5 | 1 1 1, of 8 tiles; the second 4 | 4
    assert fullest_hand(LOAD, 2) == pytest.approx((10 / 8 + 1.0) / 2)
    assert fullest_hand(LOAD, 1) == 1.0


def test_only_joint_trainings_are_compared_with_one():
    losses = {"one": [1.0, 0.5], "2 together": [1.0, 0.25], "2 apart": [9.0, 9.0], "2 in step": [9.0, 9.0]}
    turn = {name: {"losses": values} for name, values in losses.items()}
    assert list(differences({"load": [turn]})) == [0.25]


def test_four_processes_where_there_is_room(monkeypatch):
    monkeypatch.setattr(train_processes, "usable_cpus", lambda: 2)
    assert default_processes(0) == default_processes(1) == [1, 2]
    assert default_processes(4) == [1, 2, 4]
    monkeypatch.setattr(train_processes, "usable_cpus", lambda: 8)
    assert default_processes(1) == [1, 2, 4]
    assert default_processes(2) == [1, 2]


@pytest.mark.parametrize("recipe", ["abmil", "weno"])
def test_a_worker_trains_and_tells_every_epoch(pool, tmp_path, recipe):
    task = Task(training("together", 1, LOAD._replace(recipe=recipe)), 0, tmp_path / "first")
    again = task._replace(folder=tmp_path / "again")
    for one in (task, again):
        one.folder.mkdir()
    (told,), (repeated,) = pool.run([task]), pool.run([again])
    assert len(told.clock) == len(told.processor) == 3
    assert told.clock == sorted(told.clock)
    assert told.losses[0] != told.losses[1]
    assert all(0.0 < loss < 2.0 for loss in told.losses)
    assert repeated.losses == told.losses


def test_what_a_worker_fails_with_is_told(pool, tmp_path):
    with pytest.raises(RuntimeError, match="no bag of class 1 among 1 bags"):
        pool.run([Task(training("together", 1, LOAD._replace(bags=2)), 0, tmp_path)])


def test_the_json_holds_every_training(monkeypatch, tmp_path, capsys):
    def measured(_, one):
        return Timed(0.5, 1.0 / one.processes, 1.0 / one.processes, [0.7, 0.6 + 1e-7 * one.processes])

    monkeypatch.setattr(train_processes, "measure", measured)
    monkeypatch.setattr(train_processes, "workers", nullcontext)
    found = tmp_path / "found.json"
    arguments = ["train_processes.py", "--processes", "1", "2", "--turns", "1", "--json", str(found)]
    monkeypatch.setattr("sys.argv", arguments)
    train_processes.main()
    record = json.loads(found.read_text())
    assert len(record["tables"]["epochs"]["rows"]) == 10
    assert record["largest_difference_of_a_loss"] == pytest.approx(1e-7)
    assert capsys.readouterr().out.count("over one 2.00 | limit 2.00") == 5
