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
    from offmap.detectors import entries, passes

    typer.echo("Detectors (name, needs, passes over training and calibration data):")
    for entry in entries():
        made = entry.method.default()
        first = (inspect.getdoc(entry.method) or "").splitlines()[0]
        counts = "+".join(str(passes(made, source)) for source in ("train", "calibration"))
        typer.echo(f"  {entry.name:<22} {made.needs.words:<22} {counts}  {first}")
    typer.echo("\nData sets (in $OFFMAP_DATA/NAME/SPLIT.parquet; * also from the hub):")
    for name, known in data.named_sets().items():
        typer.echo(f"  {name:<20} {known.title}{'' if known.repository is None else ' *'}")
    typer.echo("\nEmbedded: " + ", ".join(f"embedded:{name}" for name in data.EMBEDDED))
    typer.echo("Noise: " + ", ".join(f"noise:{kind}" for kind in data.NOISE_KINDS))
    typer.echo(
        "\nNetworks (with arguments as in 'wrn40_2(dropout=0.3)'; or timm:NAME, hf:OWNER/NAME, "
        "package.module:factory):"
    )
    for name, factory in networks.factories().items():
        typer.echo(f"  {name:<20} {(inspect.getdoc(factory) or '').splitlines()[0]}")
    trained = ", ".join(f"{networks.zoo.PREFIX}{name}" for name in networks.zoo.names())
    from offmap.training import RECIPES

    recipes = ", ".join(f"{name} ({', '.join(of)})" for name, (_, of) in RECIPES.items())
    typer.echo(f"\nRecipes (budgets): {recipes}")
    typer.echo(f"\nTrained: {trained or 'none at hand, in $OFFMAP_ZOO or zoo/'}")
