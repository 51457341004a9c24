"""``offmap watch``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

import typer

from offmap.cli import _options as options
from offmap.cli._arguments import refuse_unused
from offmap.cli._messages import say
from offmap.cli._output import check_outputs, write_report

FAILED = 2  # an alarm has status 1
_USUAL = 0.05


def watch(
    logs: list[Path] = typer.Argument(
        ..., help="A log of `offmap score --log`, or its --out; or the states of several monitors."
    ),
    state: Path | None = typer.Option(
        None, callback=options.a_file, help="JSON file to go on from, and to keep."
    ),
    follow: bool = typer.Option(False, help="Wait for more lines, until interrupted."),
    guard: Path | None = typer.Option(
        None, help="Folder of the guard, where the log does not say what it certifies."
    ),
    alarm_rate: float | None = typer.Option(
        None, help="Of a table of verdicts that were made at another than the guard's."
    ),
    alpha: float | None = typer.Option(
        None,
        help="Of a new monitor (by default 0.05), or a reset (as before): how probable a false "
        "alarm is.",
    ),
    delta: float | None = typer.Option(
        None,
        help="Of a new monitor (by default 0.05): how probable a certified rate is that does not "
        "hold.",
    ),
    reset: bool = typer.Option(False, help="Begin anew behind an alarm; spends alpha again."),
    every: float | None = typer.Option(
        None, min=0.01, help="Seconds between two looks of --follow; by default 1."
    ),
    out: Path | None = typer.Option(
        None, callback=options.a_file, help="PNG: wealth, p-values, alarm rates by class."
    ),
    report: Path | None = options.REPORT_PAGE,
) -> None:
    """Say whether more samples are called OOD than the guard's calibration set allows.

    Ends with status 0, or 1 if there has been an alarm since the start or --reset, or 2 on failure.
    A false alarm, ever, has a probability of at most alpha + delta. Monitors of several streams
    behind one guard are taken together by their states.

    Examples:
        offmap score guard/ today/ --out today.parquet --log log.jsonl

        offmap watch log.jsonl --state monitor.json --out watch.png

        offmap watch north.json south.json
    """
    from offmap.cli._guards import certified_by
    from offmap.errors import ArgumentError
    from offmap.guard import Monitor, merged
    from offmap.guard.watching import Watch, watched

    check_outputs(report, out)
    if every is not None and not follow:
        raise ArgumentError("--every is of --follow: give that beside it")
    if {path.suffix for path in logs} == {".json"}:
        of_logs: dict[str, Any] = {"--state": state, "--follow": follow, "--guard": guard}
        of_logs |= {"--reset": reset, "--alarm-rate": alarm_rate, "--out": out, "--report": report}
        of_logs |= {"--alpha": alpha, "--delta": delta}
        instead = f"give the log, or of one state `offmap report {logs[0]}`"
        refuse_unused(of_logs, f"on states: {instead}")
        together = merged({str(path): Monitor.load(path) for path in logs})
        typer.echo(str(together))
        raise typer.Exit(1 if together.alarmed else 0)
    if len(logs) > 1:
        raise ArgumentError("give one log, each with a --state; then their states, to merge them")
    log = logs[0]
    if follow and log.suffix != ".jsonl":
        raise typer.BadParameter("only .jsonl logs grow", param_hint="--follow")
    levels = (_USUAL if alpha is None else alpha), (_USUAL if delta is None else delta)
    watching = Watch(log, state, certified_by(guard, alarm_rate), *levels)
    if (begun := watching.monitor) is not None:  # of which the same levels may be repeated
        _refuse_other("--alpha", None if reset else alpha, begun.alphas)
        _refuse_other("--delta", delta, (begun.delta,))
    if reset:
        if begun is None:
            raise ArgumentError("there is nothing to reset: give the --state of a monitor")
        begun.reset(alpha)
        watching.save()

    def goes_on() -> bool:
        if follow:
            sleep(every or 1.0)
        return follow

    # Interrupted in the middle of a row, the state stays that of the last complete look.
    with suppress(KeyboardInterrupt):
        watched(watching, typer.echo, goes_on)
    if unread := watching.unread:
        typer.echo(f"offmap: {unread:,} rows have no verdict, as they could not be read", err=True)
    if torn := watching.torn:
        typer.echo(f"offmap: {torn:,} lines are not whole, and are left out", err=True)
    monitor = watching.monitor
    if monitor is None:
        say("There are no verdicts yet.")
        return
    say(monitor.explain())
    if out is not None:
        from offmap import plots

        plots.save(plots.watch(monitor), out)
        typer.echo(f"Written to {out}")
    if report is not None:
        write_report(monitor, report)
    if monitor.alarmed:
        raise typer.Exit(1)


def _refuse_other(option: str, value: float | None, values: Sequence[float]) -> None:
    """Refuse another level than a monitor was begun with."""
    why = f"on a monitor that was begun with {values[-1]}: leave it out, or begin another --state"
    refuse_unused({f"{option} {value}": value not in (None, *values)}, why)
