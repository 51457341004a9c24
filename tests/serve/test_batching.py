"""Batches: what is gathered, what is dropped, what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from offmap.serve.batching import Batcher, FullError, Job

Make = Callable[..., Batcher]


class Judged:
    """Notes the batches, and holds the first until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, jobs: Sequence[Job]) -> None:
        self.batches.append([job.name for job in jobs])
        self.begun.set()
        assert self.go_on.wait(20)
        for job in jobs:
            job.answer.set_result(job.name)


@pytest.fixture
def judged() -> Judged:
    return Judged()


@pytest.fixture
def make(judged: Judged) -> Iterator[Make]:
    made: list[Batcher] = []

    def make_one(**limits: float) -> Batcher:
        chosen: dict[str, float] = {"max_batch": 4, "max_wait": 0.0, "queue": 8} | limits
        made.append(Batcher(judged, **chosen))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make_one
    judged.go_on.set()
    for batcher in made:
        batcher.stop()


def job(name: str, rows: int = 1, kind: str = "a", seconds: float = 60) -> Job:
    return Job(torch.zeros(rows, 2), kind, name, time.monotonic() + seconds)


def test_what_waits_is_judged_together_by_kind_in_order(make: Make, judged: Judged) -> None:
    batcher = make()
    first = job("first")
    batcher.submit([first])
    assert judged.begun.wait(20)
    waiting = [job("1"), job("2", kind="b"), job("3"), job("4", rows=3), job("5", kind="b")]
    for each in waiting:
        batcher.submit([each])
    judged.go_on.set()
    assert [each.answer.result(20) for each in waiting] == ["1", "2", "3", "4", "5"]
    assert judged.batches == [["first"], ["1", "3"], ["2", "5"], ["4"]]


def test_a_first_row_waits_for_others_no_longer_than_asked(make: Make, judged: Judged) -> None:
    judged.go_on.set()
    batcher = make(max_wait=30.0, max_batch=3)
    jobs = [job(str(i)) for i in range(3)]
    for each in jobs:  # the third fills the batch, long before the time is over
        batcher.submit([each])
    assert [each.answer.result(20) for each in jobs] == ["0", "1", "2"]
    assert judged.batches == [["0", "1", "2"]]
    alone = make(max_wait=0.01)
    last = job("alone")
    alone.submit([last])
    assert last.answer.result(20) == "alone"


def test_a_full_queue_takes_in_all_of_a_request_or_nothing(make: Make, judged: Judged) -> None:
    batcher = make()
    batcher.submit([job("first")])
    assert judged.begun.wait(20)
    batcher.submit([job("1", rows=4), job("2", rows=3)])
    with pytest.raises(FullError):
        batcher.submit([job("3"), job("4")])
    assert batcher.rows == 7
    batcher.submit([job("5")])
    assert batcher.rows == 8


def test_rows_that_nobody_waits_for_are_dropped_and_make_room(make: Make, judged: Judged) -> None:
    batcher = make()
    batcher.submit([job("first")])
    assert judged.begun.wait(20)
    gone, late, there = job("gone", rows=4), job("late", rows=4, seconds=-1), job("there")
    batcher.submit([gone])
    batcher.submit([late])
    gone.answer.cancel()
    batcher.submit([there])
    judged.go_on.set()
    assert there.answer.result(20) == "there"
    assert judged.batches == [["first"], ["there"]]
    assert late.answer.cancelled()


def test_a_stop_judges_what_was_taken_in_and_takes_no_more(make: Make, judged: Judged) -> None:
    batcher = make(max_wait=30.0)
    jobs = [job("1"), job("2")]
    batcher.submit(jobs)
    judged.go_on.set()
    batcher.stop()
    assert [each.answer.result(0) for each in jobs] == ["1", "2"]
    with pytest.raises(FullError):
        batcher.submit([job("3")])
