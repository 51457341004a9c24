"""What several commands refuse before their work, write and print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from offmap.cli._messages import say

if TYPE_CHECKING:
    from offmap.guard import Guard
    from offmap.training import Epoch


def echo_epoch(epoch: Epoch, *, to_stderr: bool = False) -> None:
    """Loss and accuracy of an epoch in one line, for logs that show no progress bar."""
    row = epoch.history[-1]
    typer.echo(
        f"epoch {epoch.number}/{epoch.of}: loss {row['train_loss']:.4f}, accuracy "
        f"{row['train_accuracy']:.2%}; validation {row['validation_loss']:.4f}, "
        f"{row['validation_accuracy']:.2%}; {row['seconds']:.0f} s",
        err=to_stderr,
    )


def echo_files(folder: Path) -> None:
    """Print the names of the files in a folder."""
    names = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")))
    typer.echo(f"Written to {folder}/: {names}")


def command() -> str:
    """The command line, as it can be typed again."""
    return shlex.join(["offmap", *sys.argv[1:]])


def check_outputs(report: Path | None, picture: Path | None = None) -> None:
    """Refuse, before any work, paths to which no report or figure can be written."""
    if report is not None:
        from offmap.reporting import checked

        checked(report)
    if picture is not None:
        from offmap.plots import check_suffix

        check_suffix(picture)


def write_guard(guard: Guard, folder: Path) -> None:
    """Save a guard with its weights, and say what it is."""
    guard.save(folder, weights=True)
    say(f"{guard.explain()}\nWritten to {folder}/")


def write_report(subject: Any, page: Path, **more: Any) -> None:
    """Write a report on the result of a command, and say so."""
    from offmap.reporting import report

    report(subject, page, command=command(), **more)
    typer.echo(f"Written to {page} and {page.with_suffix('.json').name}")
