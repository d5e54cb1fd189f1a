"""G10: a viewer under hostile requests: no file outside the run, no bug, afterwards as quick as before."""

import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from hostile_requests import ADDRESSES, Hostile, every_request, request
from viewed_runs import STUDENT, said, tiles_at, write_manifest, write_model, write_statuses

SECRET = b"the content of a file outside the run"
STORM_S = 120.0
"""An answer that takes so long is none."""
TYPICAL_S = 1.0
"""Half of the tiles come sooner, thirty times over: a machine that stands still delays some, not most."""
HALF_S = 0.5
"""For what is no whole request: the viewer may wait for the rest of it, and must not stop meanwhile."""
MIB = 2**20


class Viewer(NamedTuple):
    """A viewer in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    cookie: str

    def ask(self, raw: bytes, *, timeout_s: float = STORM_S) -> tuple[int, bytes]:
        """Send bytes; return the status (0: none came in time) and all that came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            answer = b""
            try:
                connection.sendall(raw)
                while part := connection.recv(65536):
                    answer += part
            except (ConnectionError, TimeoutError):
                pass  # it hung up on what it would not read to its end, or waits for the rest
        status = answer.split(b" ", 2)[1:2] if answer.startswith(b"HTTP/1.") else []
        return (int(status[0]) if status else 0), answer

    def tile_s(self, name: str) -> float:
        """Seconds that one tile takes."""
        started = time.perf_counter()
        status, _ = self.ask(request(f"/dzi/0/10/{name}.jpg", more=(b"Cookie: " + self.cookie.encode(),)))
        assert status == 200
        return time.perf_counter() - started

    def resident_bytes(self) -> int:
        """Memory of the process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def viewer(synthetic_slide, tmp_path_factory) -> Iterator[Viewer]:
    """The command itself, of a run with a link that leads out of it; its errors are looked at afterwards."""
    root = tmp_path_factory.mktemp("stormed")
    slide = synthetic_slide("tumor")
    manifest = write_manifest(root / "slides.csv", [("tumor", str(slide.path), "tumor", "")])
    run = root / "run"
    write_statuses(run, {"tumor": ("ok", "")})
    write_model(run, STUDENT, [said("tumor", label="tumor", student=0.7)], {"tumor": tiles_at([(0, 0)])})
    (root / "secret.csv").write_bytes(SECRET)
    (run / "secret.csv").symlink_to(root / "secret.csv")
    (run / "report").mkdir()
    (run / "report" / "index.html").symlink_to(root / "secret.csv")
    program = "from wsi_kd.cli.app import main; main()"
    command = [sys.executable, "-c", program, "view", str(run), "--manifest", str(manifest)]
    log = root / "errors.txt"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process,
    ):
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().removeprefix("view: ").strip())
        token = address.query.removeprefix("token=")
        yield Viewer(process, int(address.port or 0), f"wsi-kd-view-{address.port}={token}")
        process.terminate()
        process.wait(timeout=STORM_S)
    assert "Traceback" not in log.read_text()


def chosen(cookie: str, count: int) -> list[Hostile]:
    """A seeded selection that holds some of every kind, or all of them."""
    requests = every_request(cookie)
    if count >= len(requests):
        return requests
    return random.Random(count).sample(requests, count)


def test_there_are_five_hundred_of_them() -> None:
    requests = every_request("a=b")
    assert len(requests) >= 500
    assert len({one.raw for one in requests}) >= 0.97 * len(requests)


def test_it_listens_on_this_machine_alone(viewer: Viewer) -> None:
    own = f"{viewer.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = {line[1].split(":")[0] for line in lines if line[1].endswith(f":{own}") and line[3] == "0A"}
    assert bound == {"0100007F"}  # 127.0.0.1


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.reliability)])
def test_hostile_requests_see_nothing_and_break_nothing(viewer: Viewer, record_property, count: int) -> None:
    names = [f"{column}_{row}" for column in range(4) for row in range(3)]
    for name in names:
        viewer.tile_s(name)
    before = viewer.resident_bytes()
    wrong = []
    requests = chosen(viewer.cookie, count)
    for hostile in requests:
        patience_s = HALF_S if hostile.kind in {"broken", "noise"} else STORM_S
        status, answer = viewer.ask(hostile.raw, timeout_s=patience_s)
        leaked = SECRET in answer or b"root:" in answer or b"slide_id,path" in answer
        expected = hostile.refused or tuple(range(500))
        if status not in expected or leaked:
            wrong.append((hostile.kind, status, leaked, hostile.raw[:120]))
    assert wrong == []
    times = [viewer.tile_s(name) for name in names for _ in range(4 if count < 100 else 40)]
    grown = (viewer.resident_bytes() - before) / MIB
    p99 = statistics.quantiles(times, n=100)[98]
    assert grown < 20
    assert statistics.median(times) < TYPICAL_S
    record_property(
        "figure",
        f"G10: {len(requests)} hostile requests: 0 files outside the run, 0 answers of 5xx, then tile p99 "
        f"{1000 * p99:.0f} ms, memory +{grown:.1f} MiB",
    )


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.reliability)])
def test_half_requests_that_are_never_finished_stop_nobody(
    viewer: Viewer, record_property, count: int
) -> None:
    """Slow-loris: a letter now and then keeps a connection open for ever."""
    lazy = [socket.create_connection(("127.0.0.1", viewer.port), timeout=STORM_S) for _ in range(count)]
    try:
        for number, connection in enumerate(lazy):
            connection.sendall(b"GET /api/run HTTP/1.1\r\nHost: 127.0.0.1\r\nX-" + b"a" * (number % 7))
        times = [viewer.tile_s("1_1") for _ in range(20)]
        for connection in lazy:
            connection.sendall(b"b")
        assert viewer.ask(request("/api/run", more=(b"Cookie: " + viewer.cookie.encode(),)))[0] == 200
    finally:
        for connection in lazy:
            connection.close()
    assert statistics.median(times) < TYPICAL_S
    slowest = 1000 * max(times)
    record_property("figure", f"G10: {count} unfinished requests open: slowest tile {slowest:.0f} ms")


def test_every_answer_carries_the_policy(viewer: Viewer) -> None:
    for address in ADDRESSES:
        for more in ((), (b"Cookie: " + viewer.cookie.encode(),), (b"Origin: https://evil.example",)):
            head = viewer.ask(request(address, more=more))[1].partition(b"\r\n\r\n")[0].lower()
            (policy,) = (line for line in head.split(b"\r\n") if line.startswith(b"content-security-policy:"))
            assert b"default-src 'none'" in policy
            assert b"unsafe" not in policy
