"""``offmap show``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli import _options as options
from offmap.cli._messages import say


def show(
    guard: Path = typer.Argument(..., help="Folder of a guard."),
    detectors: list[str] = options.GUARD_DETECTORS,
) -> None:
    """Say what a guard is, learned, promises, and was made from; its network is not needed.

    Example:
        offmap show guard/
    """
    from offmap.detectors import detector
    from offmap.guard.words import described

    for spec in detectors:  # a record names no file: the user does
        detector(spec)
    say(described(guard))
