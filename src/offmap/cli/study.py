"""``offmap study``."""

from __future__ import annotations

from pathlib import Path

import typer

SEVERAL = ("--weights", "--set")

app = typer.Typer(help="Run a study from data to tables.", no_args_is_help=True)


@app.callback()
def _studies() -> None:
    pass


@app.command("pixmix")
def pixmix(
    budget: str = typer.Option("cpu", help="smoke (embedded data, seconds), cpu or full."),
    out: Path = typer.Option(
        Path("out/pixmix"), help="Folder; an interrupted study goes on there."
    ),
    weights: list[str] = typer.Option(
        [], help="plain=... pixmix=...: zoo:NAME, folder of a run, or checkpoint[@MEAN/STD]."
    ),
    only: str | None = typer.Option(None, help="plain or pixmix: one of the two networks."),
    set: list[str] = typer.Option([], help="key=value, one or more; changes both recipes."),
    seed: int = typer.Option(0, help="Of training, and of what is held out."),
    device: str | None = typer.Option(None, help="cpu or cuda; by default the accelerator."),
) -> None:
    """Does training with PixMix help detection? Two networks on CIFAR-10, side by side.

    Examples:
        offmap study pixmix --budget smoke

        offmap study pixmix --weights plain=zoo:wrn40-2-plain pixmix=zoo:wrn40-2-pixmix
    """
    from offmap.cli._epochs import line
    from offmap.studies import pixmix as study
    from offmap.training import settings

    given = {name: str(spec) for name, spec in settings(weights, "--weights").items()}
    found = study.run(
        out,
        budget=budget,
        weights=given,
        only=only,
        changes=settings(set) | {"seed": seed},
        seed=seed,
        device=device,
        after_epoch=[line],
    )
    typer.echo(found.report())
    names = ", ".join(sorted(p.name for p in out.iterdir() if not p.name.startswith(".")))
    typer.echo(f"\nWritten to {out}/: {names}")
