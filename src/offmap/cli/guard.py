"""``offmap fit``, ``offmap calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from offmap.cli import _options as options
from offmap.cli._messages import say
from offmap.cli._output import write_guard


def fit(
    model: str = options.NETWORK,
    weights: Path | None = options.WEIGHTS,
    data: list[str] = typer.Option(
        ..., help="The network's training data: names or paths, which are joined."
    ),
    detectors: list[str] = options.detectors(["auto"], "; several are combined"),
    combine: str = typer.Option(
        "bonferroni",
        help="bonferroni, or one score by softplus, mean, fisher, mean_rank, max, harmonic.",
    ),
    normalization: str | None = options.NORMALIZATION,
    size: int | None = options.SIZE,
    resize: str | None = options.RESIZE,
    transform: str | None = options.TRANSFORM,
    channels: int | None = options.CHANNELS,
    head: str | None = options.HEAD,
    outputs: str = options.OUTPUTS,
    batch_size: int = options.BATCH_SIZE,
    device: str | None = options.DEVICE,
    engine: str | None = options.ENGINE,
    workers: int | None = options.WORKERS,
    out: Path = options.folder(..., "Folder for the guard."),
) -> None:
    """Fit a guard on a network's training data. It has no threshold before ``calibrate``.

    Example:
        offmap fit --model resnet20 --weights resnet20.th --normalization imagenet
        --data cifar10:train --detectors vim --out guard/
    """
    from offmap.cli._bench import channels_of, normalization_or_usual
    from offmap.cli._guards import (
        load_joined,
        preprocessing,
        trained_network,
        workers_of,
    )
    from offmap.data import check_resize
    from offmap.detectors import detector
    from offmap.detectors.combined.combine import Combine
    from offmap.errors import ArgumentError
    from offmap.guard import Guard
    from offmap.guard.opening import device_or_usual

    if combine != "bonferroni" and len(detectors) < 2:
        raise ArgumentError(
            f"--combine {combine} is of several detectors: name them by --detectors"
        )
    processes = workers_of(engine, workers)
    # With an engine, its workers have the device.
    network = trained_network(model, weights)
    network.to(device_or_usual(device if processes is None else "cpu"))
    own = preprocessing(model, network)
    images_normalization = normalization_or_usual(
        normalization, data[0], model, weights, own.normalization
    )
    images = load_joined(
        data,
        size=size or (None if transform else own.size),
        channels=channels if transform else channels_of(channels, images_normalization, model),
        transform=transform,
        resize=check_resize(resize or "crop"),
    )
    spec: Any = detectors
    if combine != "bonferroni" and len(detectors) > 1:
        spec = Combine([detector(name) for name in detectors], combine)  # type: ignore[arg-type]
    guard = Guard(network, spec, normalization=images_normalization, head=head, outputs=outputs)
    if processes is None:
        guard.fit(images, batch_size=batch_size)
    else:
        from offmap import scale

        scale.fit(guard, images, workers=processes, batch_size=batch_size, device=device)
    guard.model = model
    write_guard(guard, out)


@options.opens_guard(without=["alarm_rate"])
def calibrate(
    guard: Path = options.guard_to_change("Folder of a guard."),
    data: list[str] = typer.Option(..., help="Held-out ID data: names or paths, which are joined."),
    alarm_rate: list[float] = typer.Option(
        [],
        help="Share of ID that may be called unknown (by default 0.05); of several, the first "
        "is in use.",
    ),
    confidence: float | None = typer.Option(
        None, help="Certify the rates for these very images, 0.95 say; else on average."
    ),
    per_class: bool = typer.Option(False, help="Hold the rate within each predicted class."),
    pool: bool = typer.Option(False, help="Join the classes with too few images into one group."),
    groups: str | None = options.GROUPS,
    extend: bool = typer.Option(
        False, help="Add the images to those of before, at the same rates: a random sample of ID."
    ),
    limit: int | None = typer.Option(None, min=1, help="A seeded N of each of the data."),
    transform: str | None = options.TRANSFORM,
    engine: str | None = options.ENGINE,
    workers: int | None = options.WORKERS,
    mlflow: bool = options.MLFLOW,
    opening: Any = None,
) -> None:
    """Set a guard's threshold on ID data that neither the network nor the fit has seen.

    Examples:
        offmap calibrate guard/ --data cifar10:test --limit 1000 --alarm-rate 0.05 --confidence 0.95

        offmap calibrate guard/ --data ./scans --groups "patient-([0-9]+)"

        offmap calibrate guard/ --data ./more --extend
    """
    from offmap.cli._guards import load_joined, open_guard, workers_of
    from offmap.guard.groups import by_path

    if mlflow:
        from offmap.adapters import mlflow as tracking

        tracking.library()  # one that is missing must not show at the end
    from offmap.guard.opening import shape_of

    processes = workers_of(engine, workers)
    fitted_guard = open_guard(guard, opening if processes is None else opening.on_cpu)
    if mlflow:
        tracking.check(fitted_guard)
    channels, *side = (
        (opening.channels,) if fitted_guard.input_shape is None else shape_of(fitted_guard)
    )
    images = load_joined(
        data,
        size=None if transform or not side else (side[0], side[1]),
        channels=None if transform else channels,
        limit=limit,
        resize=fitted_guard.input_resize,
        transform=transform,
    )
    fitted_guard.input_shape = images.shape
    rule: dict[str, Any] = {"confidence": confidence, "per_class": per_class, "pool": pool}
    rates = alarm_rate or None
    if extend:
        rule["extend"] = True
    if groups is not None:
        rule["groups"] = by_path(groups)
    if processes is None:
        fitted_guard.calibrate(images, rates, **rule)
    else:
        from offmap import scale

        scale.calibrate(
            fitted_guard, images, rates, workers=processes, device=opening.device, **rule
        )
    write_guard(fitted_guard, guard)
    if mlflow:
        say(f"Logged to MLflow as {tracking.log_guard(guard).model_uri}")
