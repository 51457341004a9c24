"""The command line: one file per command. No command's imports run before the command does."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper

import typer

from offmap._utils.files import reason_of
from offmap.cli import (
    bench,
    check,
    collapse,
    compare,
    demo,
    export,
    guard,
    listing,
    publish,
    report,
    score,
    serve,
    show,
    study,
    train,
)
from offmap.cli import watch as watching
from offmap.cli._arguments import command_of, several
from offmap.cli._messages import say, speak_as, words_on_network
from offmap.errors import OffmapError

app = typer.Typer(
    help="Know when your classifier is off the map: out-of-distribution detection.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("fit")(guard.fit)
app.command("calibrate")(guard.calibrate)
app.command("check")(check.check)
app.command("control")(check.control)
app.command("score")(score.score)
app.command("watch")(watching.watch)
app.command("show")(show.show)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("collapse")(collapse.collapse)
app.command("publish")(publish.publish)
app.add_typer(study.app, name="study")
app.command("list")(listing.listing)


def _print_version(flag: bool) -> bool:
    if flag:
        typer.echo(f"offmap {version('offmap')}")
        raise typer.Exit
    return flag


@app.callback()
def _options(
    debug: bool = typer.Option(False, help="Show the traceback of a failure."),
    tell_version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 2 on wrong usage and with 1, after one line, on failure; ``watch``, where 1 is an
    alarm, with 2. ``--debug`` may stand anywhere and shows the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    # For "package.module:factory": looked in last, as python -m looks there first.
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be of any bytes
    parser = typer.main.get_command(app)
    command = command_of(parser, arguments)[0]
    speak_as(command)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(
            f"offmap: warning: {message}", err=True
        )
        try:
            parser(several(arguments, parser))
        except (OffmapError, OSError) as error:
            if debug:
                raise
            say(f"offmap: {reason_of(error)}", err=True)
            raise SystemExit(watching.FAILED if command.name == "watch" else 1) from None
        except Exception as error:
            if debug or (words := words_on_network(error)) is None:
                raise
            say(f"offmap: {words}", err=True)
            raise SystemExit(1) from None
