"""From rows of requests to verdicts: batches of one kind, judged together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from offmap._utils.failures import lacks_memory, of_machine
from offmap._utils.inputs import Inputs, count_of, rows_of
from offmap.errors import OffmapError
from offmap.serve.batching import Batcher, FullError, Job
from offmap.serve.recording import Recorder
from offmap.serve.refusals import Refusal, busy
from offmap.serve.served import Columns, Served
from offmap.serve.settings import Settings

_LOGGER = logging.getLogger("offmap.serve")


@dataclass(frozen=True)
class Asked:
    """What a request asks, beside its rows.

    Args:
        served: by which guard.
        name: of the request, for the log.
        rate: the alarm rate, if it is not the guard's.
        explain: whether reasons are to be given in words.
    """

    served: Served
    name: str
    rate: float | None = None
    explain: bool = False


class Judge:
    """The batcher, and what it does with a batch.

    Args:
        settings: of the service.
        recorder: is given all verdicts.
    """

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings, self._recorder = settings, recorder
        self.batcher = Batcher(
            self._judge,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            queue=settings.queue,
        )

    async def verdicts(self, asked: Asked, inputs: Sequence[Inputs]) -> list[Columns]:
        """Columns of verdicts on each of some groups of rows.

        Raises:
            Refusal: there is no place for them, it takes too long, or the network refuses them.
        """
        check_rows(sum(map(count_of, inputs)), self._settings.queue)
        end = time.monotonic() + self._settings.timeout
        size, groups = self._settings.max_batch, []
        for each in inputs:
            parts = [rows_of(each, slice(i, i + size)) for i in range(0, count_of(each), size)]
            groups.append([Job(part, _kind(asked, part), asked.name, end) for part in parts])
        jobs = [job for group in groups for job in group]
        try:
            self.batcher.submit(jobs)
        except FullError:
            raise busy("too many rows wait: try again") from None
        done = iter(await self._answered(jobs))
        return [_joined([next(done) for _ in group]) for group in groups]

    async def _answered(self, jobs: Sequence[Job]) -> list[Columns]:
        """The answers of jobs; whoever stops waiting for them drops them."""
        answers = [asyncio.wrap_future(job.answer) for job in jobs]
        try:
            await asyncio.wait(answers, timeout=self._settings.timeout)
        finally:
            for answer in answers:
                answer.cancel()  # of those that are not done
        if any(answer.cancelled() for answer in answers):
            raise busy(f"no verdict within {self._settings.timeout:g} seconds")
        for error in [answer.exception() for answer in answers]:
            if error is not None:
                raise error
        return [answer.result() for answer in answers]

    def _judge(self, jobs: Sequence[Job]) -> None:
        """Judge jobs of one kind together; if that fails, each by itself."""
        asked: Asked = jobs[0].kind[0]  # type: ignore[index]
        try:
            inputs = _together([job.inputs for job in jobs])
            verdict, columns = asked.served.judge(inputs, asked.rate, explain=asked.explain)
        except Exception as error:  # of any network: none of the others may suffer
            if len(jobs) > 1:
                for job in jobs:
                    self._judge([job])
            else:
                jobs[0].answer.set_exception(_refusal(error, jobs[0]))
            return
        start = 0
        for job in jobs:
            rows = slice(start, start := start + job.rows)
            job.answer.set_result({name: values[rows] for name, values in columns.items()})
        names = [f"{job.name}#{i}" for job in jobs for i in range(job.rows)]
        self._recorder.record(asked.served, verdict, names)


def check_rows(rows: int, most: int) -> None:
    """Refuse more rows than could ever wait.

    Raises:
        Refusal: there are more.
    """
    if rows > most:
        raise Refusal(413, f"{rows:,} rows are too many: send {most:,} at most")


def _kind(asked: Asked, inputs: Inputs) -> tuple[Any, ...]:
    """What rows of one batch share.

    Rows of several lengths are never filled up: an answer must not depend on its company.
    """
    named = {"": inputs} if isinstance(inputs, torch.Tensor) else inputs
    shapes = tuple((name, x.dtype, tuple(x.shape[1:])) for name, x in sorted(named.items()))
    return Asked(asked.served, "", asked.rate, asked.explain), shapes


def _together(parts: Sequence[Inputs]) -> Inputs:
    if len(parts) == 1:
        return parts[0]
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    if tensors:
        return torch.cat(tensors)
    named: list[Any] = list(parts)
    return {name: torch.cat([part[name] for part in named]) for name in named[0]}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: [x for part in parts for x in part[name]] for name in parts[0]}


def _refusal(error: Exception, job: Job) -> Exception:
    """What a client is told; what the error says is for the log alone."""
    _LOGGER.error("request %s: %s: %s", job.name, type(error).__name__, error)
    if lacks_memory(error):
        return busy("no memory for these rows now: try again, or send fewer")
    of_inputs = isinstance(error, OffmapError | IndexError | ValueError | RuntimeError)
    if of_inputs and not of_machine(error):
        return Refusal(400, "the network refuses these inputs")
    return error
