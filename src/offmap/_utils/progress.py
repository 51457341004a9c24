"""Progress bars with rate and remaining time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    description: str, total: int | None, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields a function that advances it by a count.

    Args:
        description: text beside the bar.
        total: the count at the end, if known.
        show: ``None`` shows it where standard error is a terminal.
    """
    if not (on_terminal() if show is None else show):
        yield lambda count: None
        return
    from offmap._utils.bar import bar  # here: most runs show none

    with bar() as display:
        task = display.add_task(description, total=total)
        yield lambda count: display.advance(task, count)


def on_terminal() -> bool:
    """Whether standard error is a terminal; without a console it may be missing or closed."""
    isatty = getattr(sys.stderr, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:
        return False
