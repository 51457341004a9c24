"""``offmap list``."""

from __future__ import annotations

import typer


def listing(
    name: str | None = typer.Argument(
        None, help="A detector, data set, network or recipe, to see all of it."
    ),
) -> None:
    """List detectors, data sets and networks by the names that commands take, or show one of them.

    Examples:
        offmap list

        offmap list knn
    """
    from offmap.cli import _listing

    typer.echo(_listing.everything() if name is None else _listing.one(name))
