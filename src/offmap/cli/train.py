"""``offmap train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from offmap.training import Recipe

SEVERAL = ("--set", "--ood")


def train(
    recipe: str | None = typer.Option(
        None, help="A name (see offmap list), or a JSON file, of a recipe or run.json."
    ),
    budget: str = typer.Option("cpu", help="smoke, cpu or full; of a named recipe."),
    set: list[str] = typer.Option([], help="key=value, one or more; changes the recipe."),
    out: Path | None = typer.Option(None, help="Folder of the run."),
    resume: bool = typer.Option(False, help="Go on with the run in that folder."),
    print_config: bool = typer.Option(False, help="Print the whole recipe, and do nothing."),
    device: str | None = typer.Option(None, help="cpu or cuda; by default the accelerator."),
    devices: int = typer.Option(1, help="How many devices, on one machine."),
    ood: list[str] = typer.Option([], help="OOD sets to evaluate on while training."),
    evaluate_every: int = typer.Option(5, help="Epochs between two such evaluations."),
    keep_every: int = typer.Option(
        0, help="Keep the weights of each so many epochs, for `offmap collapse`."
    ),
) -> None:
    """Train a network by a recipe; an interrupted run goes on with --resume.

    Examples:
        offmap train --recipe plain --budget cpu --out runs/plain

        offmap train --recipe plain --set data=./photos epochs=30 --out runs/mine

        offmap train --out runs/mine --resume

        offmap train --recipe runs/mine/run.json --set seed=1 --out runs/again
    """
    import json
    import os

    from offmap.errors import ArgumentError
    from offmap.training import train as run

    if recipe is None:
        if not (resume and out is not None):
            raise ArgumentError("give --recipe; or the --out of a run, with --resume")
        recipe = str(out / "run.json")
    declared = _declared(recipe, budget, set)
    if print_config:
        typer.echo(json.dumps(declared.record(), indent=1))
        return
    if out is None:
        raise ArgumentError("give --out, the folder of the run")
    try:
        run(
            declared,
            out,
            resume=resume,
            device=device,
            devices=devices,
            keep_every=keep_every,
            after_epoch=_watchers(declared, ood, evaluate_every),
            settings={"budget": budget, "command": _command(recipe, budget, set, out)},
        )
    except KeyboardInterrupt:
        typer.echo("interrupted: --resume goes on from the last finished epoch", err=True)
        raise typer.Exit(130) from None
    if int(os.environ.get("LOCAL_RANK", 0)):
        return  # the first of several devices speaks for all
    names = ", ".join(sorted(p.name for p in out.iterdir() if not p.name.startswith(".")))
    typer.echo(f"Written to {out}/: {names}")


def _command(recipe: str, budget: str, set: list[str], out: Path) -> str:
    """The command as it can be typed again."""
    import shlex

    words = ["offmap", "train", "--recipe", recipe, "--budget", budget, "--out", str(out)]
    return shlex.join([*words, *(["--set", *set] if set else [])])


def _declared(name: str, budget: str, pairs: list[str]) -> Recipe:
    import json

    from offmap.errors import StoreError
    from offmap.training import Recipe, recipe, settings

    if not name.endswith(".json"):
        return recipe(name, budget=budget, changes=settings(pairs))
    try:
        content = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{name} is no recipe that can be read: {error}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{name} is no recipe: it must be a JSON object")
    return Recipe.of(content.get("recipe", content)).but(settings(pairs))


def _watchers(recipe: Recipe, ood: list[str], every: int) -> list[Any]:
    from offmap import data
    from offmap.cli._epochs import line
    from offmap.studies.watching import draw_curves, watch_ood
    from offmap.training.sets import normalization

    found: list[Any] = [line, draw_curves]
    if ood:
        like = data.load(recipe.validation or recipe.data, size=recipe.size)
        sets = {name: data.load_like(name, like, limit=2000) for name in ood}
        normalize = normalization(recipe.normalization)
        found.append(watch_ood(like, sets, every=every, normalization=normalize))
    return found
