"""A context that threads and blocks may share."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self


class Shared:
    """Set up by the first one in, and put back as before by the last one out."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """Make what belongs to one object alone."""
        self._opening = threading.Lock()
        self._users = 0
        self._stack = ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy shares: it is closed, and has locks of its own."""
        fresh = object.__new__(type(self))
        fresh._renew()
        return {name: value for name, value in vars(self).items() if name not in vars(fresh)}

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
