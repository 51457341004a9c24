"""Progress bars with rate and remaining time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    description: str, total: int | None, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields a function that moves it forward by so many.

    Args:
        description: what is being done.
        total: how many there are, if known.
        show: ``None`` shows it where standard error is a terminal.
    """
    if show is None:
        show = _on_terminal()
    if not show:
        yield lambda count: None
        return
    from offmap._utils.bar import bar  # here: most runs show none

    with bar() as shown:
        task = shown.add_task(description, total=total)
        yield lambda count: shown.advance(task, count)


def _on_terminal() -> bool:
    # A process without a console has no standard error, something else, or one that is closed.
    isatty = getattr(sys.stderr, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:
        return False
