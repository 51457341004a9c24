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
_lock = threading.RLock()  # of the condition, which would enter it by way of Python
_condition = threading.Condition(_lock)
_running: dict[int, int] = {}  # blocks that each thread is in
_forking = False


class Computing:
    """A context in which the process does not fork, unless that takes too long.

    Entered while another thread forks, it waits for that. Blocks of one thread may nest.
    """

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if thread in _running:  # a fork waits for this thread already
            _running[thread] += 1
            return
        with _lock:
            if _forking:
                _condition.wait_for(lambda: not _forking, _PATIENCE)
            _running[thread] = 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread = threading.get_ident()
        if _running[thread] > 1:
            _running[thread] -= 1
            return
        with _lock:
            del _running[thread]
            if _forking:
                _condition.notify_all()


COMPUTING = Computing()


def _before_fork() -> None:
    global _forking
    _condition.acquire()
    _forking = True
    end, thread = time.monotonic() + _PATIENCE, threading.get_ident()
    while _running.keys() - {thread} and (seconds := end - time.monotonic()) > 0:
        _condition.wait(seconds)


def _after_in_parent() -> None:
    global _forking
    _forking = False
    _condition.notify_all()
    _condition.release()


def _after_in_child() -> None:
    global _lock, _condition, _forking
    _lock, _forking = threading.RLock(), False
    _condition = threading.Condition(_lock)
    for thread in _running.keys() - {threading.get_ident()}:  # of the parent
        del _running[thread]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_in_parent,
        after_in_child=_after_in_child,
    )
