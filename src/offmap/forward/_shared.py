"""A context that threads and blocks may share."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from offmap._utils.precision import NOTHING


class Shared:
    """Set up by the first one in, and put back as before by the last one out."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """Make the locks and the stack, which no copy shares."""
        self._renew_locks()
        self._users = 0
        self._stack = ExitStack()
        _instances.add(self)

    def _renew_locks(self) -> None:
        self._opening = threading.Lock()

    def opened(self) -> AbstractContextManager[Any]:
        """A context that opens it, unless it is open already."""
        return NOTHING if self._users else self

    def __getstate__(self) -> dict[str, Any]:
        """The attributes that a copy shares; it is closed, with its own locks."""
        template = object.__new__(type(self))
        template._renew()
        return {name: value for name, value in vars(self).items() if name not in vars(template)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._renew()

    def __enter__(self) -> Self:
        """Open; threads and blocks may overlap, and the first one in sets things up."""
        with self._opening:
            if self._users == 0:
                self._open()
            self._users += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opening:
            self._users -= 1
            if self._users == 0:
                self._stack.close()

    def _open(self) -> None:
        try:
            self._prepare(self._stack)
        except BaseException:
            self._stack.close()
            raise

    def _prepare(self, stack: ExitStack) -> None:
        """Set things up, and tell the stack how to put them back."""
        raise NotImplementedError


_instances: WeakSet[Shared] = WeakSet()


def _after_fork() -> None:
    """Renew the locks: those that threads of the parent hold are never released in a child."""
    for shared in list(_instances):
        shared._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
