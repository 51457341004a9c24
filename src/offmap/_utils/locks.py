"""Locks of modules, renewed in a forked child."""

from __future__ import annotations

import os
import threading


class ModuleLock:
    """A lock that is fetched by a call, ``with lock():``, at each use.

    A child has copies of locks that threads of its parent hold, and that are never released.
    """

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.RLock()

    def __call__(self) -> threading.RLock:
        return self._lock
