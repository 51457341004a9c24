"""``offmap report``."""

from __future__ import annotations

from pathlib import Path

import typer


def report(
    results: Path = typer.Argument(..., help="Folder that `offmap bench` or `offmap demo` wrote."),
    out: Path = typer.Option(Path("report.html"), help="The page; the same in .json beside it."),
    thumbnails: bool = typer.Option(True, help="Small pictures of samples, where there are any."),
    redact_paths: bool = typer.Option(
        False, "--redact-paths", help="Hide paths and keys of samples, to send it to others."
    ),
) -> None:
    """One HTML file of an evaluation: the verdict, a slider for the alarm rate, tables, curves.

    It opens from disk and loads nothing from anywhere. Pictures need the data sets: those are in
    the reports that `offmap bench --report` and `offmap demo` write.

    Examples:
        offmap report out/bench --out report.html

        offmap report out/bench --out to-send.html --redact-paths
    """
    from offmap.cli._messages import say
    from offmap.cli._output import command
    from offmap.reporting import report as made

    found = made(results, out, thumbnails=thumbnails, redact_paths=redact_paths, command=command())
    say(f"{found.text('verdict')}\n\nWritten to {out} and {out.with_suffix('.json').name}")
