"""G5: a process may die anywhere; its final names are absent or whole, and the same command ends the same."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from command_server import CommandServer, command_server
from killed_line import (
    STEPS,
    TRIED,
    UNFINISHED,
    UNTIL_PREDICT,
    Line,
    before_step,
    draw_line_cohort,
    hidden_in,
    make_line,
    run_step,
    tree_of,
)
from safetensors import safe_open

from wsi_kd.core.fault_points import POINTS, VARIABLE
from wsi_kd.core.leftovers import HIDDEN

Record: TypeAlias = Callable[[str, object], None]
SIGKILL = -9
SEED = 20250
TIMED, LEAST_KILLS = 10, 300
SLOW = {"evaluate": 8, "report": 40}
"""Steps that keep nothing of a killed run, and how many kills are followed by one whole run."""


class Place(NamedTuple):
    """Where the line is made and killed."""

    server: CommandServer
    line: Line
    trial: Path


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_line_cohort(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    with command_server() as started:
        yield started


def make_place(server: CommandServer, scratch: Path, *, steps: tuple[str, ...], name: str) -> Place:
    line = make_line(server, scratch / name, cohort=scratch, steps=steps, written=scratch / f"{name}.written")
    return Place(server, line, scratch / f"{name}-trial")


@pytest.fixture(scope="module")
def short(server: CommandServer, scratch: Path) -> Place:
    """The line as far as predict."""
    return make_place(server, scratch, steps=UNTIL_PREDICT, name="short")


@pytest.fixture(scope="module")
def whole(server: CommandServer, scratch: Path) -> Place:
    """The line to its end."""
    return make_place(server, scratch, steps=tuple(STEPS), name="whole")


def check_after_kill(line: Line, folder: Path) -> None:
    """Every final name is absent, or holds what an unkilled run wrote there."""
    found = tree_of(folder)
    for name in found.keys() - hidden_in(found):
        if Path(name).name in UNFINISHED:
            with safe_open(folder / "out" / name, "np") as handle:
                assert handle.metadata()["state"]
        else:
            assert found[name] == line.tree.get(name), f"{name} is not what an unkilled run writes"


def check_recovered(place: Place, step: str) -> None:
    """The same command again: the tree is that of an unkilled run, and nothing hidden is left."""
    again = run_step(place.server, step, place.trial)
    assert again.code == 0, again.err
    steps = list(STEPS)[: list(STEPS).index(step) + 1]
    names = {name for one in steps for name in place.line.wrote.get(one, ())}
    assert tree_of(place.trial) == {name: place.line.tree[name] for name in names}


def kill_at(place: Place, step: str, point: str, number: int) -> bool:
    """Run a step that dies at the n-th time of a point; return False where it ended before that."""
    environment = {VARIABLE: f"{point}:kill:{number}"}
    ended = run_step(place.server, step, place.trial, environment=environment)
    if ended.code == 0:
        return False
    assert (ended.code, ended.orphans) == (SIGKILL, 0), ended.err
    check_after_kill(place.line, place.trial)
    return True


def kill_at_every(place: Place, step: str, point: str) -> int:
    """Kill at the first, second, third... time of a point, until the step ends; return how often."""
    after = SLOW.get(step, 1)
    for number in count(1):
        if (number - 1) % after == 0:
            before_step(place.line, step, place.trial)
        if not kill_at(place, step, point, number):
            check_recovered(place, step)
            return number - 1
        if number % after == 0:
            check_recovered(place, step)
    raise AssertionError


def test_a_few_kills_at_seeded_points(short: Place, record_property: Record) -> None:
    rng = random.Random(SEED)
    steps = [step for step in TRIED if step in short.line.wrote]
    chosen = [(step, point) for step in steps for point in rng.sample(POINTS, 2)]
    for step, point in chosen:
        before_step(short.line, step, short.trial)
        assert kill_at(short, step, point, rng.randint(1, len(short.line.wrote[step])))
        check_recovered(short, step)
    assert short.line.tree == tree_of(short.line.folder)
    record_property("figure", f"G5: {len(chosen)} kills (a selection), 0 half files, 0 other bytes")


def test_python_opens_no_file_under_its_final_name(
    short: Place, scratch: Path, record_property: Record
) -> None:
    """G7, by an audit hook; test_one_publisher.py sees what C and Rust open."""
    notes = [json.loads(line) for line in (scratch / "short.written").read_text().splitlines()]
    below = [(call, path) for call, path, *_ in notes if "/out/" in f"/{path}"]
    assert [(call, path) for call, path in below if HIDDEN not in path] == []
    renamed = sum(call == "os.rename" for call, _ in below)
    assert renamed >= len(short.line.tree)
    record_property("figure", f"G7: {renamed} files renamed, 0 of {len(below)} calls with a final name")


@pytest.mark.reliability
def test_kills_at_every_point_and_at_any_time(whole: Place, record_property: Record) -> None:
    """Links to the line's own files tell whether any was written into: they are compared at the end."""
    at_points = sum(kill_at_every(whole, step, point) for step in TRIED for point in POINTS)
    at_times = sum(kill_in_time(whole, step, random.Random(f"{SEED} {step}")) for step in TRIED)
    assert whole.line.tree == tree_of(whole.line.folder)
    record_property(
        "figure",
        f"G5: {at_points} kills at every point of {len(TRIED)} steps, {at_times} at seeded times: "
        "0 half files, 0 other bytes after the same command again",
    )
    assert at_points + at_times >= LEAST_KILLS


def kill_in_time(place: Place, step: str, rng: random.Random) -> int:
    """Kill while the step works, until TIMED kills came before its end."""
    kills = 0
    while kills < TIMED:
        if kills % SLOW.get(step, 1) == 0:
            before_step(place.line, step, place.trial)
        after_s = rng.uniform(0.02, place.line.seconds[step])
        ended = run_step(place.server, step, place.trial, kill_after_s=after_s)
        assert ended.code in (0, SIGKILL), ended.err
        assert ended.orphans == 0
        check_after_kill(place.line, place.trial)
        kills += ended.code == SIGKILL
        if kills % SLOW.get(step, 1) == 0:
            check_recovered(place, step)
    check_recovered(place, step)
    return kills
