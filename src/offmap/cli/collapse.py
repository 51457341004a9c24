"""``offmap collapse``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli import _options as options
from offmap.cli._messages import say
from offmap.cli._output import echo_files


def collapse(
    run: Path = typer.Argument(..., help="Folder of a run, best of one trained with --keep-every."),
    ood: list[str] = typer.Option([], help="OOD sets: names, paths, noise:KIND, or NAME=PATH."),
    detectors: list[str] = options.detectors(
        ["msp", "energy", "vim", "neco"], "; evaluated on the OOD sets, in every epoch"
    ),
    limit: int = typer.Option(2000, min=1, help="A seeded N of each OOD set."),
    out: Path | None = options.folder(None, "Folder for the records; by default RUN/collapse."),
    precision: str = options.PRECISION,
    device: str | None = options.DEVICE,
    seed: int = typer.Option(0, help="Chooses the N, and draws noise."),
) -> None:
    """Measure neural collapse in every epoch of a training whose weights were kept.

    NC1 to NC5 on the un-augmented training images, accuracy, and the AUROC of detectors. What was
    measured stays; a second call goes on with epochs that came since.

    Examples:
        offmap train --recipe collapse_cifar10 --keep-every 2 --out runs/collapse

        offmap collapse runs/collapse --ood cifar100 textures noise:gaussian
    """
    from offmap.cli._guards import load_named
    from offmap.guard.opening import device_or_usual
    from offmap.training import recipe_of
    from offmap.training.recording import data_of_run, record_run

    train, test = data_of_run(run, recipe_of(run))
    out = run / "collapse" if out is None else out
    records = record_run(
        run,
        train=train,
        id_test=test,
        ood=load_named(ood, test, limit=limit, seed=seed),
        detectors=detectors,
        out=out,
        precision=precision,
        device=device_or_usual(device),
    )
    say(f"{records.table()}\n")
    echo_files(out)
