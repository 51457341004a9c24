"""Progress bars with rate and remaining time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s", style="progress.data.speed")


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
        # A process without a console has no standard error, or something else.
        isatty = getattr(sys.stderr, "isatty", None)
        show = bool(isatty and isatty())
    if not show:
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, Remaining(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
