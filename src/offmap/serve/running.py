"""uvicorn with one worker in this process, or with several of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from offmap.errors import OffmapError
from offmap.serve.connection import settings_of
from offmap.serve.metrics import folder_of
from offmap.serve.settings import Settings

_AGAIN = 5.0  # seconds before a worker that could not start is tried again
Make = Callable[[Settings], Any]  # the application; picklable where there are several workers


def run(make: Make, settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until a signal ends it: SIGTERM and SIGINT finish open requests, SIGHUP reloads.

    Args:
        make: makes the application in each worker.
        settings: of the service.
        host: to listen at.
        port: likewise; 0 for any that is free.
        tell: is given the address once it is bound.

    Raises:
        OSError: the address cannot be had.
    """
    app = make(settings) if settings.workers == 1 else None  # fails before the address is told
    with ExitStack() as stack:
        listening = stack.enter_context(bound(host, port))
        name = f"[{host}]" if ":" in host else host
        tell(f"http://{name}:{listening.getsockname()[1]}")
        if app is not None:
            Server(config_of(app, settings)).run([listening])
            return
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offmap-serve-")))
        os.environ |= folder_of(shared / "metrics")
        if settings.monitor_state is None:
            settings = replace(settings, monitor_state=shared / "monitors")
        workers = _Workers(config_of(partial(_make_app, make, settings), settings), [listening])
        workers.run()
        if workers.failed:
            raise SystemExit(1)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def config_of(app: Any, settings: Settings) -> Config:
    """Settings of uvicorn: it logs nothing that clients send, and does not name itself."""
    return Config(
        app,
        factory=settings.workers > 1,
        workers=settings.workers,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(2 * settings.timeout),
        timeout_worker_healthcheck=120,  # a worker that loads a network holds the interpreter
        **settings_of(4 * settings.queue),
    )


class _Workers(Multiprocess):
    """The supervisor of uvicorn; a hangup reloads the guard in each worker, and ends none.

    Where one of the first workers cannot start, or none can, all end. A later one is tried again,
    as its guard may be written anew while the others serve theirs.
    """

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.failed = False
        self._replaced_at: dict[int, float] = {}  # by the worker's index

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended; one that still loads its network counts as alive."""
        ended = [i for i, each in enumerate(self.processes) if not each.process.is_alive()]
        for i in ended:
            self.processes[i].join()
        failed = [i for i in ended if self.processes[i].exitcode == STARTUP_FAILURE]
        if len(failed) == len(self.processes) or not self._replaced_at.keys() >= set(failed):
            self.failed = True
            self.should_exit.set()
        if self.should_exit.is_set():
            return
        for i in ended:
            if i not in failed or time.monotonic() >= self._replaced_at[i] + _AGAIN:
                self._replaced_at[i] = time.monotonic()
                self.processes[i] = Process(self.config, self.sockets)
                self.processes[i].start()

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, signal.SIGHUP)


def _make_app(make: Make, settings: Settings) -> Any:
    """The application of a worker; one that cannot be made is not tried for ever."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        app = make(settings)
    except (OffmapError, OSError) as error:
        print(f"offmap: {error}", file=sys.stderr)
        raise SystemExit(STARTUP_FAILURE) from None
    # With its device broken it would fail its share of the requests; another takes its place.
    app.state.service.judge.when_broken = partial(os.kill, os.getpid(), signal.SIGTERM)
    return app


def _end_with_parent() -> None:
    """A worker whose supervisor was killed would hold the port, and serve without being watched."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
