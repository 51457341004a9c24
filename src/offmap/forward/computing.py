"""No fork while a thread computes, as a child also has copies of torch's own locks.

Those that another thread of the parent holds are never released in the child, whose first matrix
product then waits for ever.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

_PATIENCE = 2.0  # seconds that a fork waits at most for passes that run


class Computing:
    """A context in which the process does not fork, unless that takes too long.

    Entered while another thread forks, it waits for that. Blocks of one thread may nest.
    """

    def __init__(self) -> None:
        self._running: dict[int, int] = {}  # blocks that each thread is in
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    def _renew(self) -> None:
        self._forking = False
        self._lock = threading.RLock()  # of the condition, which would enter it by way of Python
        self._condition = threading.Condition(self._lock)

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if thread in self._running:  # a fork waits for this thread already
            self._running[thread] += 1
            return
        with self._lock:
            if self._forking:
                self._condition.wait_for(lambda: not self._forking, _PATIENCE)
            self._running[thread] = 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread = threading.get_ident()
        if self._running[thread] > 1:
            self._running[thread] -= 1
            return
        with self._lock:
            del self._running[thread]
            if self._forking:
                self._condition.notify_all()

    def _before_fork(self) -> None:
        self._condition.acquire()
        self._forking = True
        end, thread = time.monotonic() + _PATIENCE, threading.get_ident()
        while self._running.keys() - {thread} and (seconds := end - time.monotonic()) > 0:
            self._condition.wait(seconds)

    def _after_in_parent(self) -> None:
        self._forking = False
        self._condition.notify_all()
        self._condition.release()

    def _after_in_child(self) -> None:
        self._renew()
        for thread in self._running.keys() - {threading.get_ident()}:  # of the parent
            del self._running[thread]


COMPUTING = Computing()
