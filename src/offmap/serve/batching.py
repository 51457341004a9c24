"""Rows of many requests as batches, for one thread that runs the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from offmap._utils.inputs import Inputs, count_of


class FullError(Exception):
    """The queue has no place for so many rows now."""


@dataclass(eq=False)
class Job:
    """Rows of one request that are judged together: all of them, or a part.

    Args:
        inputs: of ``n`` rows.
        kind: what rows of one batch must share, such as the guard, its rate and the shape.
        name: of the request, for the log.
        deadline: by :func:`time.monotonic`; nobody waits for the answer afterwards.
        answer: of the request; its parts share one.
    """

    inputs: Inputs
    kind: Hashable
    name: str
    deadline: float
    rows: int = 0
    arrival: float = field(default_factory=time.monotonic)
    answer: Future[Any] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.rows = count_of(self.inputs)

    @property
    def dead(self) -> bool:
        """Whether nobody waits for the answer any more, or another part has failed."""
        return self.answer.done() or time.monotonic() > self.deadline


class Batcher:
    """A bounded queue of jobs, and the thread that gathers and judges them.

    Jobs of one kind are judged together, in the order in which they came; one whose client has
    gone, or whose deadline has passed, is never judged. A job is never split: a request with more
    rows than a batch submits several.

    Args:
        judge: is given jobs of one kind, and sets their answers, which may be cancelled meanwhile.
        max_batch: rows of a batch.
        max_wait: seconds that the first row of a batch waits for others.
        queue: rows that may wait.
    """

    def __init__(
        self,
        judge: Callable[[Sequence[Job]], None],
        *,
        max_batch: int,
        max_wait: float,
        queue: int,
    ) -> None:
        self.max_batch, self.max_wait, self.queue = max_batch, max_wait, queue
        self.rows = 0  # that wait
        self._judge = judge
        self._jobs: deque[Job] = deque()
        self._condition = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="offmap-batches", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of these jobs, or none.

        Raises:
            FullError: there is no place for all of them, or the batcher is stopping.
        """
        rows = sum(job.rows for job in jobs)
        with self._condition:
            if self._stopping or self.rows + rows > self.queue:
                self._sweep()
            if self._stopping or self.rows + rows > self.queue:
                raise FullError
            self._jobs.extend(jobs)
            self.rows += rows
            self._condition.notify()

    def stop(self) -> None:
        """Judge the jobs in the queue, and end."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            if jobs := [job for job in batch if not job.answer.done()]:
                self._judge(jobs)

    def _next_batch(self) -> list[Job]:
        """Jobs of one kind, once the first has waited long enough; none at the end."""
        with self._condition:
            while True:
                self._condition.wait_for(lambda: self._jobs or self._stopping)
                if not self._jobs:
                    return []
                end = self._jobs[0].arrival + self.max_wait
                while self.rows < self.max_batch and not self._stopping:
                    if (seconds := end - time.monotonic()) <= 0:
                        break
                    self._condition.wait(seconds)
                if batch := self._take_batch():
                    return batch

    def _take_batch(self) -> list[Job]:
        """Take the first job, and others of its kind, out of the queue; drop the dead."""
        self._sweep()
        batch: list[Job] = []
        remainder: deque[Job] = deque()
        rows = 0
        while self._jobs:
            job = self._jobs.popleft()
            alike = not batch or job.kind == batch[0].kind
            if not alike or (batch and rows + job.rows > self.max_batch):
                remainder.append(job)
                continue
            batch.append(job)
            rows += job.rows
            if rows >= self.max_batch:
                break
        remainder.extend(self._jobs)
        self._jobs = remainder
        self.rows -= rows
        return batch

    def _sweep(self) -> None:
        """Drop the jobs that nobody waits for."""
        alive: deque[Job] = deque()
        for job in self._jobs:
            if job.dead:
                job.answer.cancel()
            else:
                alive.append(job)
        self._jobs, self.rows = alive, sum(job.rows for job in alive)
