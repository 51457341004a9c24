"""``offmap bench``."""

from __future__ import annotations

from pathlib import Path

import typer

# Options that take several values.
SEVERAL = ("--near", "--far", "--detectors")


def bench(
    model: str = typer.Option(
        ..., help="A name as in `offmap list`; zoo:, timm:, hf:NAME; file.py: or module:factory."
    ),
    weights: Path | None = typer.Option(None, help="Checkpoint: safetensors, or tensors only."),
    id: str = typer.Option(..., help="ID data: a name such as cifar10, or a path."),
    train: str | None = typer.Option(None, help="Training data; by default ID:train."),
    calibration: str | None = typer.Option(
        None, help="ID data for the thresholds; by default a seeded tenth of the ID data."
    ),
    near: list[str] = typer.Option([], help="Near-OOD sets: names, paths, noise:KIND."),
    far: list[str] = typer.Option([], help="Far-OOD sets."),
    detectors: list[str] = typer.Option(["all"], help="all, names, or expressions."),
    normalize: str | None = typer.Option(
        None, help="cifar10, ..., none, per_image, MEAN,.../STD,...; else the card's or ID set's."
    ),
    out: Path = typer.Option(Path("out/bench"), help="Folder for tables, scores and figures."),
    size: int | None = typer.Option(
        None,
        min=1,
        help="Side to bring all images to; by default that of the card, or of the ID images.",
    ),
    channels: int | None = typer.Option(
        None, help="1 for grey, 3 for colour; by default those of the normalisation, or the data."
    ),
    limit: int | None = typer.Option(None, min=1, help="A seeded N of each set, for a quick look."),
    batch_size: int = typer.Option(256, min=1),
    precision: str = typer.Option("fp32", help="fp32 or bf16."),
    device: str | None = typer.Option(None, help="cpu, cuda, ...; by default cuda if there."),
    head: str | None = typer.Option(None, help="Name of the last linear layer, if not found."),
    alarm_rate: float = typer.Option(0.05, help="Share of ID that may be called OOD."),
    seed: int = typer.Option(0, help="Chooses the calibration tenth and --limit."),
    cache: bool = typer.Option(True, help="Keep activations in OUT, so a second run is quick."),
) -> None:
    """Evaluate detectors on real data; the network sees each sample once.

    Without --calibration, a seeded tenth of the ID test split is set aside for it.

    Examples:
        offmap bench --model resnet20 --weights resnet20.th --normalize imagenet --id cifar10
        --near cifar100 tiny_imagenet --far textures places

        offmap bench --model mine.py:network --weights w.safetensors --id photos/test
        --train photos/train --far noise:gaussian --detectors knn "ReAct(Energy())"
    """
    from offmap.cli._bench import Plan, run

    plan = Plan(
        id=id, train=train, calibration=calibration, near=near, far=far, normalize=normalize,
        size=size, channels=channels, limit=limit, seed=seed,
    )  # fmt: skip
    run(
        plan, model=model, weights=weights, detectors=detectors, out=out, batch_size=batch_size,
        precision=precision, device=device, head=head, alarm_rate=alarm_rate, cache=cache,
    )  # fmt: skip
