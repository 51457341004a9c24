"""``offmap train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from offmap._utils.files import reason_of
from offmap.cli import _options as options
from offmap.cli._output import echo_epoch, echo_files

if TYPE_CHECKING:
    from offmap.training import Recipe, Sets

_BUDGET = "cpu"  # where the command names none
# Evaluations while training, and weights that are kept, by default.
_WATCHED: dict[str, Any] = {"ood": [], "evaluate_every": 5, "keep_every": 0}


def train(
    recipe: str | None = typer.Option(
        None, help="A name (see offmap list), or a JSON file, of a recipe or run.json."
    ),
    budget: str | None = typer.Option(
        None, help="smoke, cpu (the default) or full; of a named recipe."
    ),
    set: list[str] = typer.Option([], help="key=value, one or more; changes the recipe."),
    out: Path | None = options.folder(None, "Folder of the run."),
    resume: bool = typer.Option(
        False, help="Go on with the run in that folder, watched and kept as before."
    ),
    print_config: bool = typer.Option(False, help="Print the whole recipe, and do nothing."),
    device: str | None = options.DEVICE,
    devices: int = typer.Option(1, min=1, help="How many devices, on one machine."),
    ood: list[str] = typer.Option(
        [], help="OOD sets to evaluate on while training; NAME=PATH to call one by a name."
    ),
    evaluate_every: int | None = typer.Option(
        None, min=1, help="Epochs between two such evaluations; by default 5."
    ),
    keep_every: int | None = typer.Option(
        None, min=0, help="Save the weights every N epochs, for `offmap collapse`; by default not."
    ),
) -> None:
    """Train a network by a recipe; an interrupted run goes on with --resume.

    Examples:
        offmap train --recipe plain --budget cpu --out runs/plain

        offmap train --recipe plain --set data=./photos/train validation=./photos/test size=32
        "network=wrn40_2(classes=6)" normalization=imagenet --out runs/mine

        offmap train --out runs/mine --resume

        offmap train --recipe runs/mine/run.json --set seed=1 --out runs/again
    """
    import json
    import os

    from offmap.errors import ArgumentError
    from offmap.guard.opening import device_or_usual
    from offmap.training import train as run
    from offmap.training.folder import is_finished

    record = out / "run.json" if resume and out is not None else None
    if recipe is None:
        if record is None:
            raise ArgumentError("give --recipe; or the --out of a run, with --resume")
        recipe = str(record)
    before = _read(str(record)).get("watched", {}) if record and record.is_file() else {}
    declaration, budget = _recipe_and_budget(recipe, budget, set)
    if print_config:
        typer.echo(json.dumps(declaration.record(), indent=1))
        return
    if out is None:
        raise ArgumentError("give --out, the folder of the run")
    watching = {"ood": ood, "evaluate_every": evaluate_every, "keep_every": keep_every}
    changes = {name: value for name, value in watching.items() if value not in (None, [])}
    watched = _WATCHED | before | changes
    if evaluate_every is not None and not watched["ood"]:
        raise ArgumentError("--evaluate-every is of OOD sets: give --ood")
    if resume and is_finished(out):
        typer.echo(f"the run in {out} is finished: nothing is left to train or to watch", err=True)
    command = _command(recipe, budget, set, out, watched)
    sets, callbacks = _callbacks(declaration, watched["ood"], watched["evaluate_every"])
    try:
        run(
            declaration,
            out,
            sets=sets,
            resume=resume,
            device=device_or_usual(device),
            devices=devices,
            keep_every=watched["keep_every"],
            after_epoch=callbacks,
            settings={"budget": budget, "command": command, "watched": watched},
        )
    except KeyboardInterrupt:
        typer.echo("interrupted: --resume goes on from the last finished epoch", err=True)
        raise typer.Exit(130) from None
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:  # the first of several devices speaks for all
        echo_files(out)


def _command(
    recipe: str, budget: str | None, set: list[str], out: Path, watched: dict[str, Any]
) -> str:
    """The command as it can be typed again, but for the devices."""
    import shlex

    words = ["offmap", "train", "--recipe", recipe, *(["--budget", budget] if budget else [])]
    words += ["--out", str(out)]
    words += ["--set", *set] if set else []
    for name in (name for name in _WATCHED if watched[name] != _WATCHED[name]):
        value = watched[name]
        words += [f"--{name.replace('_', '-')}", *map(str, value if name == "ood" else [value])]
    return shlex.join(words)


def _recipe_and_budget(
    name: str, budget: str | None, pairs: list[str]
) -> tuple[Recipe, str | None]:
    """The recipe and its budget, if it has one: that of a user has none."""
    from offmap.errors import ArgumentError
    from offmap.training import Recipe, recipe, settings

    if not name.endswith(".json"):
        budget = budget or _BUDGET
        return recipe(name, budget=budget, changes=settings(pairs)), budget
    content, changes = _read(name), settings(pairs)
    declaration = Recipe.of(content.get("recipe", content)).but(changes)
    if content.get("given") and "data" not in changes:
        raise ArgumentError(
            f"{content.get('command') or 'a program'} gave the data of {name}, which its recipe "
            "does not name: repeat that, or say what to train on by --set data=..."
        )
    of_file = content.get("budget")
    if budget not in (None, of_file):
        holds = f"of the budget {of_file}, which no other budget" if of_file else "that no budget"
        raise ArgumentError(
            f"{name} holds a recipe {holds} changes: leave --budget out, and change it by --set"
        )
    return declaration, of_file


def _read(name: str) -> dict[str, Any]:
    import json

    from offmap.errors import StoreError

    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{name} is no recipe that can be read: {reason_of(error)}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{name} is no recipe: it must be a JSON object")
    return content


def _callbacks(recipe: Recipe, ood: list[str], every: int) -> tuple[Sets | None, list[Any]]:
    """The data, if OOD sets are loaded like them, and the callbacks of each epoch."""
    from offmap.cli._guards import load_named
    from offmap.training import normalization
    from offmap.training.callbacks import draw_curves, watch_ood
    from offmap.training.sets import load

    callbacks: list[Any] = [echo_epoch, draw_curves]
    if not ood:
        return None, callbacks
    sets = load(recipe)
    by_name = load_named(ood, sets.validation, limit=2000)
    normalize = normalization(recipe.normalization)
    callbacks.append(watch_ood(sets.validation, by_name, every=every, normalization=normalize))
    return sets, callbacks
