"""``offmap export``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli import _options as options


def export(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    out: Path | None = typer.Argument(None, help="guard.onnx, or guard.pt2 for torch.export."),
    triton: Path | None = typer.Option(
        None, help="Folder of a model for the Triton server: 1/model.onnx and config.pbtxt."
    ),
    alarm_rate: float | None = options.GUARD_ALARM_RATE,
    model: str | None = options.GUARD_NETWORK,
    weights: Path | None = options.GUARD_WEIGHTS,
    detectors: list[str] = options.GUARD_DETECTORS,
    normalization: str | None = options.GUARD_NORMALIZATION,
    size: int | None = options.GUARD_SIZE,
    channels: int | None = options.GUARD_CHANNELS,
    device: str = typer.Option("cpu", help="Where a .pt2 graph is to run: cpu, cuda, ..."),
) -> None:
    """Write a guard as one graph: uint8 images to label, score, p-value and decision.

    An ONNX graph has an input alarm_rate, whose default is the guard's.

    Examples:
        offmap export guard/ guard.onnx

        offmap export guard/ --triton models/guard
    """
    import torch

    from offmap.cli._guards import open_guard, shape_of
    from offmap.errors import ArgumentError
    from offmap.guard.export import export
    from offmap.guard.triton import export_triton

    if (out is None) == (triton is None):
        raise ArgumentError("give a file, such as guard.onnx, or --triton and a folder")
    found = open_guard(
        guard, model, weights, detectors, device=device, normalization=normalization, size=size,
        channels=channels, alarm_rate=alarm_rate,
    )  # fmt: skip
    if (out is None or out.suffix == ".onnx") and found.probe.device.type != "cpu":
        raise ArgumentError("an ONNX graph runs on any device: leave --device out")
    shape = shape_of(found)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (64, *shape), generator=generator, device=generator.device
    ).byte()
    example = images.to(found.probe.device)
    if triton is not None:
        export_triton(found, triton, example=example)
    elif out is not None:
        export(found, out, example=example)
    typer.echo(f"Written to {triton or out}; its answers on 64 random images are the guard's.")
