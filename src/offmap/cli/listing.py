"""``offmap list``."""

from __future__ import annotations

import typer


def listing() -> None:
    """List detectors, data sets and networks by the names that commands take.

    Example:
        offmap list
    """
    import inspect

    from offmap import data, networks
    from offmap.detectors import catalogue

    typer.echo("Detectors (name, needs, passes over training activations):")
    for name, method in catalogue().items():
        made = method.default()
        first = (inspect.getdoc(method) or "").splitlines()[0]
        needs = "+".join(sorted(made.needs))
        typer.echo(f"  {name:<20} {needs:<22} {made.stages}  {first}")
    typer.echo("\nData sets (in $OFFMAP_DATA/NAME/SPLIT.parquet or on the hub):")
    for name, entry in data.known().items():
        typer.echo(f"  {name:<20} {entry.title}")
    typer.echo("\nEmbedded: " + ", ".join(f"embedded:{name}" for name in data.EMBEDDED))
    typer.echo("Noise: " + ", ".join(f"noise:{kind}" for kind in data.NOISE_KINDS))
    made_here = [n for n in networks.__all__ if n.islower() and n not in ("build", "load_weights")]
    typer.echo("\nNetworks: " + ", ".join(made_here) + ", or package.module:factory")
