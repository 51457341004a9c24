"""The guard that is served now, with its judge, recorder and metrics."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from offmap.data import OwnTransform
from offmap.errors import ArgumentError
from offmap.guard import Guard
from offmap.serve.bodies import Bodies
from offmap.serve.judging import Judge
from offmap.serve.metrics import Metrics
from offmap.serve.recording import Recorder
from offmap.serve.refusals import Refusal, busy
from offmap.serve.served import Served
from offmap.serve.settings import Settings

_LOGGER = logging.getLogger("offmap.serve")
T = TypeVar("T")


class Service:
    """The guard that is served now, with its judge, recorder and metrics.

    Args:
        open_guard: opens the guard, and is called again to reload it.
        settings: of the service.
        own: opens the function that makes the guard's images, where it was fitted through one; it
            is called again, too, as a guard that was fitted anew may have another.

    Raises:
        NotFittedError: the guard has no threshold.
        ArgumentError: it cannot be served.
        StoreError: its log or its state cannot be kept.
    """

    def __init__(
        self,
        open_guard: Callable[[], Guard],
        settings: Settings,
        own: Callable[[], OwnTransform] | None = None,
    ) -> None:
        self.settings = settings
        self._open: Callable[[], Served] = lambda: Served(open_guard(), own() if own else None)
        self.served = self._open()
        self.recorder = Recorder(settings)
        self.recorder.open(self.served)
        self.judge = Judge(settings, self.recorder)
        self.bodies = Bodies(settings)
        self.metrics = Metrics(
            lambda: self.recorder.shown(self.served), lambda: self.judge.batcher.rows
        )
        self.recorder.metrics = self.metrics
        self.ready = False
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="offmap-decode")
        self._reloading = asyncio.Lock()

    def start(self) -> None:
        """Start to judge."""
        self.recorder.start()
        self.judge.batcher.start()
        self.ready = True

    async def stop(self) -> None:
        """Judge and keep the rows in the queues, and end."""
        self.ready = False
        await asyncio.to_thread(self.judge.batcher.stop)
        await asyncio.to_thread(self.recorder.stop)
        self._pool.shutdown(cancel_futures=True)

    @asynccontextmanager
    async def running(self, *, reload_on_hangup: bool) -> AsyncIterator[None]:
        """A block in which it judges; SIGHUP reloads it, where that is asked for."""
        self.start()
        reloading: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = asyncio.ensure_future(self.reload())
            reloading.add(task)  # the loop alone would forget it
            task.add_done_callback(reloading.discard)

        if reload_on_hangup:
            with suppress(NotImplementedError, AttributeError):  # Windows has no such signal
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        try:
            yield
        finally:  # what mounts it may fail, and the verdicts in the queues are to be kept
            await self.stop()

    async def reload(self) -> bool:
        """Open the guard again, and serve it from now on; requests in work keep theirs.

        Where it cannot be opened, that is logged, and the guard before stays.
        """
        async with self._reloading:
            try:
                served = await asyncio.to_thread(self._open)
                await asyncio.to_thread(self.recorder.open, served)
            except Exception as error:  # of any opener: what is served goes on
                _LOGGER.error("the guard was not reloaded, and the one before stays: %s", error)
                return False
            before, self.served = self.served, served
            _LOGGER.warning("reloaded: serving the guard %s", served.certified.guard)
            # Until no request has the guard before; all of them have a deadline.
            end = time.monotonic() + 2 * self.settings.timeout
            while before.requests and time.monotonic() < end:
                await asyncio.sleep(0.02)
            if before.certified.guard != served.certified.guard:
                await asyncio.to_thread(self.recorder.close, before)
            return True

    @asynccontextmanager
    async def current(self) -> AsyncIterator[Served]:
        """The guard that is served now, which stays until the block ends.

        Raises:
            Refusal: the service is not running, as within an application that does not start it.
        """
        if not self.ready:
            raise busy(
                "the service is not running: the application that mounts it must run its lifespan"
            )
        served = self.served
        served.requests += 1
        try:
            yield served
        finally:
            served.requests -= 1

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; seconds are those of verdicts alone."""
        self.metrics.requests.labels(str(status)).inc()
        if status == 200 and (path == "/score" or path.endswith("/infer")):
            self.metrics.seconds.observe(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what takes long, such as decoding, in a thread beside other requests."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def rate_of(self, served: Served, rate: Any) -> float | None:
        """The alarm rate that a request asks for, if it does.

        Raises:
            Refusal: it may not choose one, or there is no such rate.
        """
        if rate is None:
            return None
        if not self.settings.allow_alarm_rate:
            raise Refusal(403, "this service does not let requests choose their alarm rate")
        try:
            number = float(rate)
            # The first rate that was not named needs the band for all rates: seconds of work.
            await self.in_thread(lambda: served.at(number))
        except (TypeError, ValueError, OverflowError) as error:
            why = str(error) if isinstance(error, ArgumentError) else "it must be a number"
            raise Refusal(400, f"alarm_rate: {why}") from None
        return number
