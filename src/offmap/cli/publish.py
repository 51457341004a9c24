"""``offmap publish``."""

from __future__ import annotations

from pathlib import Path

import typer


def publish(
    run: Path = typer.Argument(..., help="Folder of a finished run."),
    name: str = typer.Argument(..., help="Its name in the zoo."),
    zoo: Path = typer.Option(Path("zoo"), help="Folder of the zoo."),
    overwrite: bool = typer.Option(False, help="Replace another network of that name."),
) -> None:
    """Write a trained network into a zoo, in bfloat16, with a card of how it was made.

    Example:
        offmap publish runs/plain wrn40-2-cifar10
    """
    from offmap.networks import card
    from offmap.training.publish import publish

    path = publish(run, name, folder=zoo, overwrite=overwrite)
    accuracy = card.read(path.with_suffix(".json")).accuracy
    size = path.stat().st_size / 1e6
    typer.echo(f"{path}: {size:.1f} MB, accuracy as stored {accuracy:.2%}")
