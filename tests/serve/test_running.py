"""A real process: what a signal does to it, slow clients, several workers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from uvicorn.config import STARTUP_FAILURE

import offmap
from offmap.data import ImageSet
from offmap.guard import Certified, Monitor
from offmap.serve import Settings, running
from tests.serve.conftest import png

PATIENCE = 120.0  # seconds: machines may be slow
PNG = {"Content-Type": "image/png"}
FACTORY = """
from offmap import demo

def network():
    return demo.shipped()
"""


@pytest.fixture(scope="module")
def folder(guard: offmap.Guard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("service")
    guard.save(made / "guard")
    (made / "mine.py").write_text(FACTORY)
    return made


class Running:
    """``offmap serve`` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "offmap", "serve", "guard", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--model", "mine.py:network", "--device", "cpu", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        found = re.search(r"http://[\w.:]+", self.first)
        if found is None:
            self.process.wait(PATIENCE)
        assert found is not None, self.first + self.process.stdout.read()
        self.url = found[0]
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        eventually(self.is_ready)

    def is_ready(self) -> bool:
        try:
            return self.client.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def score(self, image: Any) -> dict[str, Any]:
        said = self.client.post("/score", content=png(image), headers=PNG)
        assert said.status_code == 200, said.text
        row: dict[str, Any] = said.json()["answers"][0]
        return row

    def end(self, sent: signal.Signals) -> int:
        self.client.close()
        self.process.send_signal(sent)
        return self.process.wait(PATIENCE)


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start_one(*options: str) -> Running:
        running.append(Running(folder, *options))
        return running[-1]

    yield start_one
    for one in running:
        one.client.close()
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def kept(folder: Path, guard: offmap.Guard) -> Monitor:
    return Monitor.load(folder / f"{Certified.of(guard).guard}-0.json")


def test_slow_clients_are_left_and_sigterm_finishes_what_was_taken_in(
    start: Callable[..., Running], guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    # A row waits 2 seconds for others: the signal comes while it does.
    options = ("--max-wait-ms", "2000", "--timeout", "4", "--monitor-state", str(tmp_path))
    running = start(*options)
    slow_clients_are_left(running)
    said: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: said.append(running.score(digits.images[5])))
    asking.start()
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as other:
        eventually(lambda: "offmap_waiting_rows 1.0" in other.get("/metrics").text)
    running.process.send_signal(signal.SIGTERM)
    asking.join(PATIENCE)
    assert said[0]["p_value"] == float(guard(digits.images[5:6]).p_values)
    assert running.process.wait(PATIENCE) == -signal.SIGTERM
    assert kept(tmp_path, guard).samples == 1


def test_sigkill_and_a_restart_keep_the_monitor(
    start: Callable[..., Running], guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    options = ("--monitor-state", str(tmp_path / "m"), "--log", str(tmp_path / "log"))
    running = start(*options)
    for image in digits.images[:3]:
        running.score(image)
    eventually(lambda: kept(tmp_path / "m", guard).samples == 3)  # a second, at most
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    again = start(*options)
    for image in digits.images[3:5]:
        again.score(image)
    assert again.end(signal.SIGTERM) == -signal.SIGTERM
    plain = Monitor(guard)
    plain.update(guard(digits.images[:5]))
    assert kept(tmp_path / "m", guard).tally == plain.tally


def slow_clients_are_left(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as slow:
        slow.sendall(
            b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100\r\n\r\nabc"
        )
        answer = slow.makefile("rb").read()  # to the end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    with socket.create_connection((host, int(port)), PATIENCE) as slow:
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: loc")  # and nothing more
        assert slow.makefile("rb").read() == b""
    with socket.create_connection((host, int(port)), PATIENCE) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert slow.recv(13) == b"HTTP/1.1 200 "  # the body is not read, and not waited for either
        slow.sendall(b"d")
        assert slow.makefile("rb").read().endswith(b"</html>\n")
    with socket.create_connection((host, int(port)), PATIENCE) as wrong:
        wrong.sendall(b"\x16\x03\x01\x02\x00 no HTTP at all\r\n\r\n")
        assert wrong.makefile("rb").read().startswith(b"HTTP/1.1 400 ")
    with socket.create_connection((host, int(port)), PATIENCE) as gone:
        gone.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")


def test_several_workers_count_together_and_reload_without_a_gap(
    start: Callable[..., Running], guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    running = start("--workers", "2", "--monitor-state", str(tmp_path))
    expected = guard(digits.images[:12]).p_values.tolist()
    for i, image in enumerate(digits.images[:12]):
        if i == 6:
            running.process.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as fresh:  # any worker
            said = fresh.post("/score", content=png(image), headers=PNG).json()
        assert said["answers"][0]["p_value"] == expected[i]
    eventually(lambda: "offmap_p_value_count 12.0" in running.client.get("/metrics").text)
    states = [path for path in tmp_path.iterdir() if path.suffix == ".json"]
    eventually(lambda: sum(Monitor.load(path).samples for path in states) == 12)
    text = running.client.get("/metrics").text
    alarms = int(guard(digits.images[:12]).is_ood.sum())
    assert f"offmap_alarm_ratio {alarms / 12}" in text
    assert len(states) == 2
    assert running.end(signal.SIGTERM) == 0


def test_workers_end_with_a_supervisor_that_was_killed(start: Callable[..., Running]) -> None:
    running = start("--workers", "2")
    host, port = running.url.removeprefix("http://").split(":")
    running.process.kill()

    def is_free() -> bool:
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except ConnectionError:
            return True
        return False

    eventually(is_free)


class Fake:
    """A worker's process, and what became of it."""

    def __init__(self, *_: object) -> None:
        self.exitcode: int | None = None
        self.pid, self.process = id(self), self

    def start(self) -> None:
        pass

    def join(self) -> None:
        assert self.exitcode is not None

    def is_alive(self) -> bool:
        return self.exitcode is None


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(running, "Process", Fake)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    made = running._Workers(SimpleNamespace(workers=2), [])
    made.processes = [Fake(), Fake()]
    return made


def test_a_first_worker_that_cannot_begin_ends_the_service(workers: Any) -> None:
    workers.keep_subprocess_alive()
    assert not workers.should_exit.is_set()
    workers.processes[1].exitcode = STARTUP_FAILURE
    workers.keep_subprocess_alive()
    assert workers.failed
    assert workers.should_exit.is_set()


def test_a_worker_that_cannot_begin_later_is_tried_again_beside_the_others(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: now[0]))
    first, killed = workers.processes
    killed.exitcode = -signal.SIGKILL
    workers.keep_subprocess_alive()
    again = workers.processes[1]
    assert again is not killed
    again.exitcode = STARTUP_FAILURE  # its guard is being written
    workers.keep_subprocess_alive()
    told: list[int] = []
    monkeypatch.setattr("os.kill", lambda number, _: told.append(number))
    workers.handle_hup()
    assert told == [first.pid]  # another process may have the number of the one that has ended
    assert workers.processes == [first, again]
    now[0] += 6
    workers.keep_subprocess_alive()
    assert workers.processes[1] is not again
    assert not workers.should_exit.is_set()
    for each in workers.processes:
        each.exitcode = STARTUP_FAILURE
    workers.keep_subprocess_alive()
    assert workers.failed


def test_a_worker_whose_device_is_broken_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_end_with_parent", lambda: None)
    judge, told = SimpleNamespace(), []
    application = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(judge=judge)))
    monkeypatch.setattr("os.kill", lambda *of: told.append(of))
    assert running._make_app(lambda _: application, Settings()) is application
    judge.when_broken()
    assert told == [(os.getpid(), signal.SIGTERM)]


def test_a_guard_that_cannot_be_opened_is_told_in_one_line(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "offmap", "serve", "guard", "--port", "0", "--workers", "2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "give --model" in done.stderr
    assert "Traceback" not in done.stderr
