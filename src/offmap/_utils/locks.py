"""Locks of modules, which a forked child has anew."""

from __future__ import annotations

import os
import threading


class ModuleLock:
    """A lock that is asked for, ``with lock():``, at each use.

    A child has a copy of what a thread of its parent may hold, and nobody to give it back.
    """

    def __init__(self) -> None:
        self.renew()
        _all.append(self)

    def renew(self) -> None:
        """Let nobody hold it."""
        self._lock = threading.RLock()

    def __call__(self) -> threading.RLock:
        return self._lock


_all: list[ModuleLock] = []


def _after_fork() -> None:
    for each in _all:
        each.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
