"""The command line: one file per command. No command's imports run before the command does."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import typer

from offmap.cli import bench, collapse, demo, export, guard, listing, publish, score, study, train
from offmap.cli._arguments import several
from offmap.errors import LeftOutWarning, OffmapError

# By command: the same option of another command may take one value and be followed by others.
_SEVERAL = {
    "bench": bench.SEVERAL,
    "calibrate": guard.SEVERAL,
    "export": guard.SEVERAL,
    "score": guard.SEVERAL,
    "collapse": collapse.SEVERAL,
    "fit": guard.SEVERAL,
    "study": study.SEVERAL,
    "train": train.SEVERAL,
}

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
app.command("score")(score.score)
app.command("export")(export.export)
app.command("train")(train.train)
app.command("collapse")(collapse.collapse)
app.command("publish")(publish.publish)
app.add_typer(study.app, name="study")
app.command("list")(listing.listing)


@app.callback()
def _options(debug: bool = typer.Option(False, help="Show the traceback of a failure.")) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 2 on wrong usage and with 1, after one line, on failure. ``--debug`` may stand
    anywhere and shows the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    # Where "package.module:factory" is looked for last; python -m looks there first.
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    format_others = warnings.formatwarning
    warnings.formatwarning = partial(_warning, format_others)
    try:
        app(several([a for a in arguments if a != "--debug"], _SEVERAL))
    except (OffmapError, OSError) as error:
        if debug:
            raise
        typer.echo(f"offmap: {error}", err=True)
        raise SystemExit(1) from None
    finally:
        warnings.formatwarning = format_others


def _warning(format_others: Callable[..., str], message: Any, kind: type, *place: Any) -> str:
    """One line on data that is left out, without the place in the code."""
    if issubclass(kind, LeftOutWarning):
        return f"offmap: {message}\n"
    return format_others(message, kind, *place)
