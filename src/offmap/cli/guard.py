"""``offmap fit``, ``offmap calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

# Options that take several values.
SEVERAL = ("--detector", "--detectors")

MODEL = typer.Option(None, help="As for fit, if the network is not of this library.")
DETECTORS = typer.Option([], help="The guard's own detectors: file.py:Name, package.module:Name.")
WEIGHTS = typer.Option(None, help="Checkpoint, if the guard was saved without it.")


def fit(
    model: str = typer.Option(
        ..., help="A name as in `offmap list`; zoo:, timm:, hf:NAME; file.py: or module:factory."
    ),
    weights: Path | None = typer.Option(None, help="Checkpoint: safetensors, or tensors only."),
    data: str = typer.Option(..., help="The network's training data: a name or a path."),
    detector: list[str] = typer.Option(["vim"], help="Names or expressions; several are combined."),
    combine: str = typer.Option(
        "bonferroni", help="bonferroni, or one score by softplus, fisher, mean_rank, max, harmonic."
    ),
    normalize: str | None = typer.Option(
        None, help="cifar10, ..., none, per_image, MEAN,.../STD,...; else the card's or data's."
    ),
    size: int | None = typer.Option(None, min=1, help="Side of the images, if the data's differ."),
    channels: int | None = typer.Option(
        None, help="1 for grey, 3 for colour; by default those of the normalisation, or the data."
    ),
    head: str | None = typer.Option(None, help="Name of the last linear layer, if not found."),
    batch_size: int = typer.Option(256, min=1),
    out: Path = typer.Option(..., help="Folder for the guard."),
) -> None:
    """Fit a guard on a network's training data. It has no threshold before ``calibrate``.

    Example:
        offmap fit --model resnet20 --weights resnet20.th --normalize imagenet --data cifar10:train
        --detector vim --out guard/
    """
    from offmap import data as sets
    from offmap import detectors
    from offmap.cli._bench import channels_of, normalization_or_usual
    from offmap.cli._guards import preprocessing, tell_skipped, trained_network
    from offmap.detectors.combined.combine import Combine
    from offmap.guard import Guard

    network = trained_network(model, weights)
    own = preprocessing(model, network)
    how = normalization_or_usual(normalize, data, model, own.normalization)
    images = sets.load(data, size=size or own.size, channels=channels_of(channels, how, model))
    one_score = combine != "bonferroni" and len(detector) > 1
    several: Any = detector
    if one_score:
        several = Combine([detectors.detector(name) for name in detector], combine)  # type: ignore[arg-type]
    guard = Guard(network, several, normalization=how, head=head)
    guard.fit(images, batch_size=batch_size)
    tell_skipped(images)
    guard.model = model
    guard.save(out, weights=True)
    typer.echo(f"{guard.explain()}\nWritten to {out}/")


def calibrate(
    guard: Path = typer.Argument(..., help="Folder of a guard."),
    data: str = typer.Option(..., help="Held-out ID data: a name or a path."),
    alarm_rate: float = typer.Option(0.05, help="Share of ID that may be called unknown."),
    per_class: bool = typer.Option(False, help="Hold the rate within each answer."),
    limit: int | None = typer.Option(None, help="A seeded N of the data."),
    model: str | None = MODEL,
    weights: Path | None = WEIGHTS,
    detectors: list[str] = DETECTORS,
) -> None:
    """Set a guard's threshold on ID data that neither the network nor the fit has seen.

    Example:
        offmap calibrate guard/ --data cifar10:test --limit 1000 --alarm-rate 0.05
    """
    from offmap import data as sets
    from offmap.cli._guards import open_guard, tell_skipped

    found = open_guard(guard, model, weights, detectors)
    shape = found.input_shape
    size, channels = (None, None) if shape is None else (shape[1:], shape[0])
    images = sets.load(data, size=size, channels=channels, limit=limit)
    found.calibrate(images, alarm_rate, per_class=per_class)
    tell_skipped(images)
    found.save(guard, weights=True)
    typer.echo(f"{found.explain()}\nWritten to {guard}/")
