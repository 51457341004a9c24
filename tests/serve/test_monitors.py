"""Metrics, the monitor inside, its state, the log, and a reload."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from torch import nn

import offmap
from offmap import demo
from offmap._utils.files import claimed
from offmap.data import ImageSet, OwnTransform
from offmap.errors import StoreError
from offmap.guard import Certified, Monitor
from offmap.guard.watching import Watch
from offmap.serve import Settings, app
from offmap.serve.metrics import Metrics
from offmap.serve.monitors import Book, Slot, shown_together
from offmap.serve.recording import Recorder
from offmap.serve.served import Served
from offmap.serve.service import Service
from tests.serve.conftest import png

PNG = {"Content-Type": "image/png"}


def metrics_of(client: TestClient) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def post(client: TestClient, images: torch.Tensor) -> None:
    files = [("f", (f"{i}.png", png(image))) for i, image in enumerate(images)]
    assert client.post("/score", files=files).status_code == 200


def seen(client: TestClient, samples: int) -> dict[tuple[str, ...], float]:
    """The metrics once so many samples are recorded, which is behind their answer."""
    for _ in range(1000):
        found = metrics_of(client)
        if found[("offmap_p_value_count",)] == samples:
            return found
    raise AssertionError(f"never {samples} samples: {found}")


def test_metrics_are_those_of_the_bare_guard_and_its_monitor(
    client: TestClient, guard: offmap.Guard, digits: ImageSet, faces: ImageSet
) -> None:
    images = torch.cat([digits.images[:20], faces.images[:5]])
    post(client, images)
    found = seen(client, 25)
    verdict, monitor = guard(images), Monitor(guard)
    monitor.update(verdict)
    unknown = int(verdict.is_ood.sum())
    assert found[("offmap_samples_total", "unknown")] == unknown
    assert found[("offmap_samples_total", "known")] == 25 - unknown
    assert found[("offmap_p_value_bucket", "0.05")] == int((verdict.p_values <= 0.05).sum())
    assert found[("offmap_alarm_ratio",)] == unknown / 25
    assert found[("offmap_alarm_rate",)] == 0.05
    assert found[("offmap_monitor_log_wealth",)] == pytest.approx(monitor.log_wealth)
    assert found[("offmap_monitor_log_wealth_limit",)] == pytest.approx(-math.log(0.05))
    assert found[("offmap_monitor_alarm",)] == monitor.alarmed
    assert found[("offmap_score_seconds_count",)] == 1
    assert found[("offmap_requests_total", "200")] >= 1


def test_state_and_log_survive_a_restart(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"log": tmp_path / "log", "monitor_state": tmp_path / "monitor"}
    for part in (slice(0, 30), slice(30, 50)):
        with TestClient(app(guard, **limits), base_url="http://localhost") as client:
            post(client, digits.images[part])
    name = Certified.of(guard).guard
    plain = Monitor(guard)
    plain.update(guard(digits.images[:50]))
    kept = Monitor.load(tmp_path / "monitor" / f"{name}-0.json", guard)
    assert (kept.samples, kept.tally) == (50, plain.tally)
    assert kept.log_wealth == pytest.approx(plain.log_wealth)
    watch = Watch(tmp_path / "log" / f"{name}-0.jsonl")
    list(watch.go_on())
    assert watch.monitor is not None
    assert watch.monitor.log_wealth == kept.log_wealth
    lines = (tmp_path / "log" / f"{name}-0.jsonl").read_text().splitlines()
    inputs = [json.loads(line)["input"] for line in lines if "certified" not in line]
    places = [int(name.rpartition("#")[2]) for name in inputs]
    assert places == [*range(30), *range(20)]


class Nines(nn.Module):
    """Fails on a batch that holds a 9, and takes its time over one that holds an 8."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.done = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x == 9).any()):
            raise ValueError("a nine")
        if bool((x == 8).any()):
            time.sleep(1.0)
        self.done += 1
        return self.head(x)


def test_a_request_counts_as_a_whole_once_it_is_answered_and_not_at_all_before(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(64, 3), torch.arange(64) % 2
    network = Nines()
    guard = offmap.Guard(network, "energy").fit([(x, labels)]).calibrate([(x, labels)])
    limits: dict[str, Any] = {"max_batch": 2, "queue": 10, "timeout": 0.3, "log": tmp_path}
    good = [[0.5, 1, i] for i in range(5)]
    with TestClient(app(guard, **limits), base_url="http://localhost") as client:
        failed = client.post("/score", json={"rows": [*good[:4], [9, 1, 2]]})
        before = network.done
        late = client.post("/score", json={"rows": [[8, 1, 2]]})
        assert (failed.status_code, late.status_code) == (400, 503)
        while network.done == before:  # its verdict is there, and nobody waits for it
            time.sleep(0.01)
        again = client.post("/score", json={"rows": good}, headers={"X-Request-Id": "again"})
        assert again.status_code == 200
        assert seen(client, 5)[("offmap_samples_total", "known")] <= 5
    (log,) = tmp_path.glob("*.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["input"] for row in rows if "is_ood" in row] == [f"again#{i}" for i in range(5)]


def test_a_file_that_cannot_be_read_takes_its_number_in_the_log(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    files = [("f", ("torn.png", b"torn")), ("f", ("good.png", png(digits.images[0])))]
    with TestClient(app(guard, log=tmp_path), base_url="http://localhost") as client:
        answers = client.post("/score", files=files, headers={"X-Request-Id": "id"}).json()
    (log,) = tmp_path.glob("*.jsonl")
    row = json.loads(log.read_text().splitlines()[-1])
    assert row["input"] == "id#1"
    assert row["p_value"] == answers["answers"][1]["p_value"]


def test_a_second_service_does_not_share_the_files(guard: offmap.Guard, tmp_path: Path) -> None:
    first = app(guard, monitor_state=tmp_path)
    with pytest.raises(StoreError, match=r"1 processes use .* already: stop them"):
        app(guard, monitor_state=tmp_path)
    first.state.service.recorder.stop()
    app(guard, monitor_state=tmp_path).state.service.recorder.stop()


def test_a_log_that_cannot_be_written_costs_its_lines_alone(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    with TestClient(app(guard, log=tmp_path), base_url="http://localhost") as client:
        monkeypatch.setattr(offmap.guard.Log, "add", full)
        post(client, digits.images[:3])
        for _ in range(1000):
            if metrics_of(client)[("offmap_unrecorded_total",)] == 3:
                break
        assert metrics_of(client)[("offmap_unrecorded_total",)] == 3
        monkeypatch.undo()
        post(client, digits.images[:2])
        seen(client, 5)


def test_a_state_that_cannot_be_written_at_the_end_frees_what_others_wait_for(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    limits: dict[str, Any] = {"log": tmp_path / "log", "monitor_state": tmp_path / "monitor"}
    recorder = app(guard, **limits).state.service.recorder
    (book,) = recorder._books.values()
    book.add(guard(digits.images[:1]), ["a"])
    monkeypatch.setattr(Monitor, "save", full)
    recorder.stop()
    monkeypatch.undo()
    app(guard, **limits).state.service.recorder.stop()


def test_monitors_of_several_workers_are_merged(
    guard: offmap.Guard, digits: ImageSet, faces: ImageSet, tmp_path: Path
) -> None:
    settings = Settings(monitor_state=tmp_path, workers=2)
    slots = [Slot(settings), Slot(settings)]
    assert [slot.number for slot in slots] == [0, 1]
    with pytest.raises(StoreError, match="2 processes"):
        Slot(settings)
    certified = Certified.of(guard)
    for slot, images in zip(slots, (digits.images[:40], faces.images[:40]), strict=True):
        book = Book(certified, settings, slot.number)
        book.add(guard(images), [str(i) for i in range(40)])
        book.close()
        slot.free()
    one, two = (Monitor.load(tmp_path / f"{certified.guard}-{i}.json") for i in range(2))
    shown = shown_together(tmp_path, certified)
    assert shown is not None
    assert shown.samples == 80
    assert shown.alarms == one.tally.alarms + two.tally.alarms
    mean = (math.exp(one.log_wealth) + math.exp(two.log_wealth)) / 2
    assert shown.log_wealth == pytest.approx(math.log(mean))
    assert shown.alarmed
    # Neither worker has had a request since the guard was reloaded at another rate.
    assert shown_together(tmp_path, Certified.of(guard.at(0.1))) == replace(shown, alarm_rate=0.1)
    two.reset()
    two.save(tmp_path / f"{certified.guard}-1.json")
    shown = shown_together(tmp_path, certified)
    assert shown is not None
    assert (shown.log_wealth, shown.alarmed) == (min(one.log_wealth, 0.0), False)


def test_a_reload_changes_the_guard_between_two_requests(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    sets = demo.digits_data()
    other = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    other.fit(sets.train).calibrate(sets.calibration)
    at_10 = guard.at(0.1)
    turns = [guard, at_10, other]

    def open_next() -> offmap.Guard:
        if not turns:
            raise StoreError("the folder is empty")
        return turns.pop(0)

    service_app = app(open_next, log=tmp_path / "log", monitor_state=tmp_path / "m")
    service = service_app.state.service
    with TestClient(service_app, base_url="http://localhost") as client:
        assert client.portal is not None
        for turn in (guard, at_10, other):
            said = client.post("/score", content=png(digits.images[0]), headers=PNG).json()
            assert said["promise"] == turn.calibration.promise
            assert said["answers"][0]["p_value"] == float(turn(digits.images[:1]).p_values)
            if turn is not other:
                assert client.portal.call(service.reload)
        # What is served stays.
        assert not client.portal.call(service.reload)
        assert client.get("/v2/health/ready").json() == {"ready": True}
    names = sorted(path.name for path in (tmp_path / "log").iterdir() if path.suffix)
    assert names == sorted(f"{Certified.of(g).guard}-0.jsonl" for g in (guard, other))
    log = (tmp_path / "log" / f"{Certified.of(guard).guard}-0.jsonl").read_text().splitlines()
    headers = [row["certified"]["alarm_rate"] for row in map(json.loads, log) if "certified" in row]
    assert headers == [0.05, 0.1]
    kept = Monitor.load(tmp_path / "m" / f"{Certified.of(guard).guard}-0.json")
    assert (kept.samples, len(kept.thresholds)) == (2, 2)


def test_a_verdict_behind_a_reload_is_logged_and_the_log_closed_again(
    guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    """As of a request that was still in work when the reload passed its deadline."""
    recorder = Recorder(Settings(log=tmp_path))
    recorder.metrics = Metrics(lambda: None, lambda: 0)
    served = Served(guard)
    log = tmp_path / f"{served.certified.guard}-0.jsonl"
    recorder.open(served)
    recorder.start()
    recorder.close(served)
    for late in ("a", "b"):
        recorder.record(served, guard(digits.images[:1]), [late])
    while '"b"' not in log.read_text():
        time.sleep(0.01)
    for _ in range(1000):
        if recorder.shown(served) is None:
            break
        time.sleep(0.01)
    assert recorder.shown(served) is None
    claimed(log).close()  # another process could write it
    recorder.open(served)  # it is served again
    recorder.record(served, guard(digits.images[:1]), ["c"])
    while '"c"' not in log.read_text():
        time.sleep(0.01)
    assert recorder.shown(served) is not None
    recorder.stop()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["input"] for row in rows if "is_ood" in row] == ["a", "b", "c"]


def test_a_reload_opens_the_function_that_makes_images_too(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    own = partial(OwnTransform.of, f"{file}:pixels")

    def fitted_through_it() -> offmap.Guard:
        made = guard.at(0.05)
        made.input_transform = own().id
        return made

    def write(value: int) -> None:
        file.write_text(
            f"import numpy\n\ndef pixels(_):\n    return numpy.full((8, 8), {value}.0)\n"
        )

    write(1)
    service = Service(fitted_through_it, Settings(), own)
    write(2)
    assert asyncio.run(service.reload())
    assert service.served.own is not None
    assert service.served.own.function(None)[0, 0] == 2
    service.recorder.stop()


def test_a_client_that_goes_drops_its_rows(guard: offmap.Guard, digits: ImageSet) -> None:
    service_app = app(guard, max_wait_ms=60_000)
    service = service_app.state.service
    body = png(digits.images[0])
    scope = {
        **{"type": "http", "method": "POST", "path": "/score", "query_string": b""},
        "headers": [(b"host", b"localhost"), (b"content-type", b"image/png")],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def go() -> None:
        service.start()
        gone = asyncio.Event()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async with asyncio.timeout(20):
            call = asyncio.ensure_future(service_app(dict(scope), receive, send))
            while not service.judge.batcher.rows:
                await asyncio.sleep(0)
            gone.set()
            await call
            await service.stop()

    asyncio.run(go())
    assert sent == []
    assert service.bodies.held == 0
    assert service.served.requests == 0
    assert service.recorder.metrics.samples.labels("known")._value.get() == 0


def test_what_takes_too_long_is_told_when_to_try_again(
    guard: offmap.Guard, digits: ImageSet
) -> None:
    limits: dict[str, Any] = {"max_wait_ms": 60_000, "timeout": 0.05}
    with TestClient(app(guard, **limits), base_url="http://localhost") as client:
        response = client.post("/score", content=png(digits.images[0]), headers=PNG)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json() == {"error": "no verdict within 0.05 seconds"}


def test_a_service_whose_lifespan_nobody_runs_says_so_at_once(
    guard: offmap.Guard, digits: ImageSet
) -> None:
    whole = Starlette(routes=[Mount("/ood", app(guard))])
    with TestClient(whole, base_url="http://localhost") as client:
        response = client.post("/ood/score", content=png(digits.images[0]), headers=PNG)
    assert response.status_code == 503
    assert "must run its lifespan" in response.json()["error"]


def test_a_service_stops_with_an_application_that_fails_around_it(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    service = app(guard, log=tmp_path).state.service

    async def failing() -> None:
        async with service.running(reload_on_hangup=False):
            raise RuntimeError("of the application that mounts it")

    with pytest.raises(RuntimeError, match="mounts it"):
        asyncio.run(failing())
    assert not service.ready
    app(guard, log=tmp_path).state.service.recorder.stop()  # the log is free again


def test_a_full_queue_is_told_when_to_try_again(guard: offmap.Guard, digits: ImageSet) -> None:
    service_app = app(guard, queue=2, max_batch=2)
    service = service_app.state.service
    with TestClient(service_app, base_url="http://localhost") as client:
        service.judge.batcher.rows = 2  # as if others waited
        service.judge.batcher._sweep = lambda: None
        response = client.post("/score", content=png(digits.images[0]), headers=PNG)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        service.judge.batcher.rows = 0
        del service.judge.batcher._sweep
        assert client.post("/score", content=png(digits.images[0]), headers=PNG).status_code == 200
