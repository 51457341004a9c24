"""From rows of requests to verdicts: batches of one kind, judged together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from offmap._utils.failures import lacks_memory, of_machine
from offmap._utils.inputs import Inputs, count_of, rows_of
from offmap.errors import OffmapError
from offmap.guard import Verdict
from offmap.serve.batching import Batcher, FullError, Job
from offmap.serve.recording import Recorder
from offmap.serve.refusals import Refusal, busy
from offmap.serve.served import Columns, Served
from offmap.serve.settings import Settings

_LOGGER = logging.getLogger("offmap.serve")


@dataclass(frozen=True)
class Query:
    """What a request wants, beside its rows.

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

    def kind(self, inputs: Inputs) -> tuple[Any, ...]:
        """What rows of one batch share.

        Rows of several lengths are never padded: an answer must not depend on the rows beside it.
        """
        tensors = {"": inputs} if isinstance(inputs, torch.Tensor) else inputs
        shapes = tuple((name, x.dtype, tuple(x.shape[1:])) for name, x in sorted(tensors.items()))
        return replace(self, name=""), shapes


@dataclass(eq=False)
class _Request:
    """A request in parts, which is answered, counted and logged in full or not at all.

    After a failure a client sends the request again: parts with a verdict would count twice.
    """

    parts: int
    answer: Future[list[Columns]] = field(default_factory=Future)
    judged: dict[int, tuple[Verdict, Columns, list[str]]] = field(default_factory=dict)

    def add(self, i: int, verdict: Verdict, columns: Columns, names: list[str]) -> bool:
        """Add the verdict on a part; whether it was the last, and the client still waits."""
        self.judged[i] = verdict, columns, names
        # From then on it is too late to cancel.
        return len(self.judged) == self.parts and self.answer.set_running_or_notify_cancel()

    @property
    def in_order(self) -> list[tuple[Verdict, Columns, list[str]]]:
        """The parts in the order of the request."""
        return [self.judged[i] for i in range(self.parts)]


@dataclass(eq=False, kw_only=True)
class _Part(Job):
    """The ``i``-th part of a request, with the index of each row in the request."""

    request: _Request
    i: int
    places: Sequence[int]

    def fail(self, error: Exception) -> None:
        """Answer the request with what failed, unless it has an answer.

        The log alone has the text of the error, as it may tell of the network.
        """
        _LOGGER.error("request %s: %s: %s", self.name, type(error).__name__, error)
        answer = error
        of_inputs = isinstance(error, OffmapError | IndexError | ValueError | RuntimeError)
        if lacks_memory(error):
            answer = busy("no memory for these rows now: try again, or send fewer")
        elif of_inputs and not of_machine(error):
            answer = Refusal(400, "the network refuses these inputs")
        if not self.answer.done() and self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(answer)


class Judge:
    """The batcher, and what it does with a batch.

    Args:
        settings: of the service.
        recorder: is given all verdicts.
    """

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings, self._recorder = settings, recorder
        self.broken = False  # whether the device is: then every call fails
        self.when_broken: Callable[[], None] | None = None
        self.batcher = Batcher(
            self._judge,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            queue=settings.queue,
        )

    async def verdicts(
        self, query: Query, inputs: Sequence[Inputs], places: Sequence[Sequence[int]]
    ) -> list[Columns]:
        """Columns of verdicts on each of some groups of rows.

        Args:
            query: for all of them.
            inputs: the groups.
            places: the index of each row in the request, for the log.

        Raises:
            Refusal: there is no place for them, it takes too long, or the network refuses them.
        """
        check_rows(sum(map(count_of, inputs)), self._settings.queue)
        sizes = [count_of(each) for each in inputs]
        step = self._settings.max_batch
        cuts = [(g, slice(i, i + step)) for g, n in enumerate(sizes) for i in range(0, n, step)]
        request, end = _Request(len(cuts)), time.monotonic() + self._settings.timeout
        parts = []
        for i, (g, cut) in enumerate(cuts):
            rows = rows_of(inputs[g], cut)
            parts.append(
                _Part(
                    rows, query.kind(rows), query.name, end,
                    answer=request.answer, request=request, i=i, places=places[g][cut],
                )
            )  # fmt: skip
        try:
            self.batcher.submit(parts)
        except FullError:
            raise busy("too many rows wait: try again") from None
        answers = zip(cuts, await self._answer(request), strict=True)
        groups: list[list[Columns]] = [[] for _ in inputs]
        for (g, _), columns in answers:
            groups[g].append(columns)
        return [{name: [x for part in g for x in part[name]] for name in g[0]} for g in groups]

    async def _answer(self, request: _Request) -> list[Columns]:
        """The answer of a request; whoever stops waiting for it drops it."""
        waiting = asyncio.wrap_future(request.answer)
        try:
            await asyncio.wait([waiting], timeout=self._settings.timeout)
        finally:
            dropped = request.answer.cancel()  # not where it is being answered, and counted
        if dropped:
            raise busy(f"no verdict within {self._settings.timeout:g} seconds")
        return await waiting

    def _judge(self, parts: Sequence[Any]) -> None:
        """Judge parts of one kind together; if that fails, each by itself."""
        query: Query = parts[0].kind[0]
        try:
            inputs = parts[0].inputs
            if len(parts) > 1 and isinstance(inputs, torch.Tensor):
                inputs = torch.cat([part.inputs for part in parts])
            elif len(parts) > 1:
                inputs = {n: torch.cat([part.inputs[n] for part in parts]) for n in inputs}
            verdict, columns = query.served.judge(inputs, query.rate, explain=query.explain)
        except Exception as error:  # of any network: none of the others may suffer
            self._note_broken(error)
            if len(parts) > 1:
                for part in parts:
                    self._judge([part])
            else:
                parts[0].fail(error)
            return
        answered, start = [], 0
        for part in parts:
            rows = slice(start, start := start + part.rows)
            part_columns = {name: values[rows] for name, values in columns.items()}
            names = [f"{part.name}#{place}" for place in part.places]
            if part.request.add(part.i, verdict[rows], part_columns, names):
                answered += part.request.in_order
                part.answer.set_result([answer for _, answer, _ in part.request.in_order])
        if answered:
            record = Verdict.joined([of_part for of_part, _, _ in answered])
            rows_of_log = [name for _, _, names in answered for name in names]
            self._recorder.record(query.served, record, rows_of_log)

    def _note_broken(self, error: Exception) -> None:
        """Note a broken device, and call what restarts the worker."""
        if of_machine(error) and not lacks_memory(error) and not self.broken:
            self.broken = True
            if self.when_broken is not None:
                self.when_broken()


def check_rows(rows: int, limit: int) -> None:
    """Refuse more rows than the queue can hold.

    Raises:
        Refusal: there are more.
    """
    if rows > limit:
        raise Refusal(413, f"{rows:,} rows are too many: send {limit:,} at most")
