"""uvicorn with one worker in this process, or with several of its own."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import tempfile
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

Make = Callable[[Settings], Any]  # the application; picklable where there are several workers


def run(make: Make, settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until a signal ends it: SIGTERM or SIGINT finish what was taken in, SIGHUP reloads.

    Args:
        make: makes the application in each worker.
        settings: of the service.
        host: to listen at.
        port: likewise; 0 for any that is free.
        tell: is given the address once it is bound.

    Raises:
        OSError: the address cannot be had.
    """
    ready = make(settings) if settings.workers == 1 else None  # what fails is told before
    with ExitStack() as stack:
        listening = stack.enter_context(bound(host, port))
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{listening.getsockname()[1]}")
        if ready is not None:
            Server(config_of(ready, settings)).run([listening])
            return
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offmap-serve-")))
        os.environ |= folder_of(shared / "metrics")
        if settings.monitor_state is None:
            settings = replace(settings, monitor_state=shared / "monitors")
        workers = _Workers(config_of(partial(_made, make, settings), settings), [listening])
        workers.run()
        if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
            raise SystemExit(1)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def config_of(app: Any, settings: Settings) -> Config:
    """Settings of uvicorn: nothing of what clients send is logged, no other server is named."""
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
    """The supervisor of uvicorn; a hangup reloads the guard in each worker, and ends none."""

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended; one that still loads its network is not asked."""
        for i, process in enumerate(self.processes):
            if process.process.is_alive():
                continue
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            self.processes[i] = Process(self.config, self.sockets)
            self.processes[i].start()

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)


def _made(make: Make, settings: Settings) -> Any:
    """The application of a worker; one that cannot be made is not tried for ever."""
    try:
        return make(settings)
    except (OffmapError, OSError) as error:
        print(f"offmap: {error}", file=sys.stderr)
        raise SystemExit(STARTUP_FAILURE) from None
