"""``offmap study``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from offmap.cli import _options as options

# What every study takes.
_SET = typer.Option([], help="key=value, one or more; changes the recipes.")
_SEED = typer.Option(0, help="Of training, and of what is held out.")

app = typer.Typer(
    help="Run a study from data to tables: prints the main one, writes all.", no_args_is_help=True
)


@app.callback()
def _studies() -> None:
    pass


@app.command("pixmix")
def pixmix(
    budget: str = typer.Option("cpu", help="smoke (embedded data, seconds), cpu or full."),
    out: Path = options.folder(Path("out/pixmix"), "Folder; an interrupted study goes on there."),
    weights: list[str] = typer.Option(
        [],
        help="plain=... pixmix=...: zoo:NAME, folder of a run, checkpoint[@MEAN/STD], or a network "
        "and its file, resnet56:FILE@imagenet.",
    ),
    limit: int | None = typer.Option(None, min=1, help="A seeded N of each set, for a quick look."),
    cache: Path | None = typer.Option(
        None, help="Folder for activations: OUT/activations of a bench, or a new one."
    ),
    only: str | None = typer.Option(None, help="plain or pixmix: one of the two networks."),
    set: list[str] = _SET,
    seed: int = _SEED,
    device: str | None = options.DEVICE,
    report: bool = options.REPORT,
) -> None:
    """Does training with PixMix help detection? Two networks on CIFAR-10, side by side.

    Examples:
        offmap study pixmix --budget smoke

        offmap study pixmix --weights plain=zoo:wrn40-2-cifar10 pixmix=zoo:wrn40-2-pixmix

        offmap study pixmix --only plain --weights plain=resnet56:FILE@imagenet --limit 4000
    """
    from offmap.studies import pixmix as study

    _run(
        study.run,
        out,
        weights,
        set,
        budget=budget,
        only=only,
        limit=limit,
        cache=cache,
        seed=seed,
        device=device,
        report=report,
    )


@app.command("anchors")
def anchors(
    budget: str = typer.Option("cpu", help="smoke (embedded digits, seconds), cpu or full."),
    out: Path = options.folder(Path("out/anchors"), "Folder; an interrupted study goes on there."),
    weights: list[str] = typer.Option(
        [], help="plain=... anchors=...: zoo:NAME, folder of a run, or checkpoint[@MEAN/STD]."
    ),
    id: str | None = typer.Option(
        None, help="mnist, or cifar10: vehicles and two animals against four; by default mnist."
    ),
    splits: int | None = typer.Option(
        None, help="How many times six classes against four; by default 5 (smoke: 1)."
    ),
    set: list[str] = _SET,
    seed: int = _SEED,
    device: str | None = options.DEVICE,
    report: bool = options.REPORT,
) -> None:
    """Which images are of no known class? Class anchors, a threshold from known images alone.

    Examples:
        offmap study anchors --budget smoke

        offmap study anchors --weights plain=zoo:mnist-plain anchors=zoo:mnist-anchors --splits 0

        offmap study anchors --id cifar10 --splits 3
    """
    from offmap.studies import anchors as study

    _run(
        study.run,
        out,
        weights,
        set,
        id=id,
        budget=budget,
        splits=splits,
        seed=seed,
        device=device,
        report=report,
    )


@app.command("disagreement")
def disagreement(
    budget: str = typer.Option("cpu", help="smoke (embedded digits, seconds), cpu or full."),
    out: Path = options.folder(
        Path("out/disagreement"), "Folder; an interrupted study goes on there."
    ),
    weights: list[str] = typer.Option(
        [],
        help="plain=... disagreement=... single-NAME=...: zoo:NAME, folder of a run, checkpoint, "
        "resnet56:FILE@imagenet, or members between commas; start=...: what both are trained from.",
    ),
    set: list[str] = _SET,
    seed: int = _SEED,
    device: str | None = options.DEVICE,
    report: bool = options.REPORT,
) -> None:
    """Do members that learned to disagree know better what they do not know? On CIFAR-10.

    Examples:
        offmap study disagreement --budget smoke

        offmap study disagreement --weights plain=a,b,c disagreement=zoo:vgg16x5-disagreement

        offmap study disagreement --weights start=RUN --set epochs=4
    """
    from offmap.studies import disagreement as study

    _run(study.run, out, weights, set, budget=budget, seed=seed, device=device, report=report)


@app.command("collapse")
def collapse(
    id: str | None = typer.Option(
        None, help="cifar100, cifar10 or digits; by default cifar100, for smoke digits."
    ),
    budget: str = typer.Option("cpu", help="smoke (embedded digits, seconds), cpu or full."),
    out: Path = options.folder(Path("out/collapse"), "Folder; an interrupted study goes on there."),
    weights: list[str] = typer.Option(
        [], help="NAME=... NAME=..., earliest first: zoo:NAME, folder of a run, or checkpoint."
    ),
    every: int | None = typer.Option(
        None, min=1, help="Epochs between two records; by default 2 (full: 10)."
    ),
    limit: int | None = typer.Option(
        None, min=1, help="With --weights: a seeded N of each set, for a quick look."
    ),
    precision: str = options.PRECISION,
    set: list[str] = _SET,
    seed: int = _SEED,
    device: str | None = options.DEVICE,
    report: bool = options.REPORT,
) -> None:
    """Neural collapse, NECO, and what collapse says about OOD: ResNet-18 on CIFAR.

    Examples:
        offmap study collapse --budget smoke

        offmap study collapse --id cifar10 --weights last=zoo:resnet18-w32-cifar10
    """
    from offmap.studies import collapse as study

    _run(
        study.run, out, weights, set, id=id, budget=budget, every=every, limit=limit,
        precision=precision, seed=seed, device=device, report=report,
    )  # fmt: skip


def _run(
    study: Callable[..., Any],
    out: Path,
    weights: list[str],
    changes: list[str],
    device: str | None,
    report: bool,
    **settings: Any,
) -> None:
    """Run a study and print its summary; progress goes to stderr."""
    from functools import partial

    from offmap.cli._messages import say
    from offmap.cli._output import echo_epoch, echo_files, write_report
    from offmap.guard.opening import device_or_usual
    from offmap.training import settings as values
    from offmap.training.recipe import texts

    outcome = study(
        out,
        weights=texts(weights, "--weights"),
        changes=values(changes),
        after_epoch=[partial(echo_epoch, to_stderr=True)],
        device=device_or_usual(device),
        **settings,
    )
    say(f"{outcome.summary()}\n\nAll tables: {out / 'report.txt'}")
    if report:
        write_report(out, out / "report.html")
    echo_files(out)
