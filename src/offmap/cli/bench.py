"""``offmap bench``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli import _options as options


def bench(
    model: list[str] = options.NETWORKS,
    weights: list[Path] = options.WEIGHTS_OF_EACH,
    id: str = typer.Option(..., help="ID data: a name such as cifar10, or a path."),
    train: str | None = typer.Option(None, help="Training data; by default ID:train."),
    calibration: str | None = typer.Option(
        None, help="ID data for the thresholds; by default a seeded tenth of the ID data."
    ),
    near: list[str] = typer.Option(
        [], help="Near-OOD sets: names, paths, noise:KIND; NAME=PATH to call one by a name."
    ),
    far: list[str] = typer.Option([], help="Far-OOD sets, likewise."),
    id_shift: list[str] = typer.Option(
        [], help="ID data that has shifted, likewise; or corrupt:KIND, the ID images made worse."
    ),
    detectors: list[str] = options.detectors(["all"], "; or all"),
    metric: list[str] = options.METRIC,
    published: str | None = typer.Option(
        None, help="openood: our rows beside those of OpenOOD v1.5, for cifar10 and cifar100."
    ),
    normalization: str | None = options.NORMALIZATION,
    out: Path = options.folder(Path("out/bench"), "Folder for tables, scores and figures."),
    size: int | None = options.SIZE,
    resize: str | None = options.RESIZE,
    transform: str | None = options.TRANSFORM,
    channels: int | None = options.CHANNELS,
    limit: int | None = typer.Option(None, min=1, help="A seeded N of each set, for a quick look."),
    train_limit: int | None = typer.Option(
        None, min=1, help="A seeded N of the training data, where it is not to be --limit."
    ),
    batch_size: int = options.BATCH_SIZE,
    precision: str = options.PRECISION,
    device: str | None = options.DEVICE,
    engine: str | None = options.ENGINE,
    workers: int | None = options.WORKERS,
    head: str | None = options.HEAD,
    outputs: str = options.OUTPUTS,
    alarm_rate: float = typer.Option(0.05, help="Share of ID that may be called OOD."),
    seed: int = typer.Option(0, help="Chooses the calibration tenth and what --limit leaves."),
    report: bool = options.REPORT,
    mlflow: bool = options.MLFLOW,
    cache: bool = typer.Option(
        True, help="Keep activations in OUT, so a second run is quick; not with an engine."
    ),
) -> None:
    """Evaluate detectors on real data; the network sees each sample once.

    Without --calibration, a seeded tenth of the ID test split is set aside for it. Several
    networks, or several checkpoints of one, have a folder of results each, and are taken together:
    means, deviations, ranks.

    Of ID data that has shifted (--id-shift), a table says whether detectors mind: how often they
    raise an alarm on it, whether they tell it apart from ID, and what AUROC is left beside it.

    Examples:
        offmap bench --model resnet20 --weights resnet20.th --normalization imagenet --id cifar10
        --near cifar100 tiny_imagenet --far textures places

        offmap bench --model mine.py:network --weights w.safetensors --id photos/test
        --train photos/train --near cameras=./other/cameras/test --far noise:gaussian
        --detectors "knn,ReAct(Energy())"

        offmap bench --model resnet20 --weights resnet20.th --id cifar10 --far textures
        --id-shift corrupt:gaussian_blur:3 corrupt:contrast

        offmap bench --model resnet20 --weights seed0.th seed1.th --id cifar10 --far textures
    """
    from offmap.cli._arguments import named
    from offmap.cli._bench import Plan, networks_of, run_all
    from offmap.cli._guards import workers_of
    from offmap.guard.opening import device_or_usual

    plan = Plan(
        id=id, train=train, calibration=calibration, near=named(near), far=named(far),
        id_shift=named(id_shift),
        normalization=normalization, size=size, resize=resize, transform=transform,
        channels=channels, limit=limit, train_limit=train_limit,
        seed=seed,
    )  # fmt: skip
    run_all(
        plan, networks_of(model, weights), detectors=detectors, out=out, cache=cache,
        batch_size=batch_size, precision=precision, device=device_or_usual(device), head=head,
        outputs=outputs, alarm_rate=alarm_rate, metrics=metric, published=published, report=report,
        mlflow=mlflow,
        workers=workers_of(engine, workers),
    )  # fmt: skip
