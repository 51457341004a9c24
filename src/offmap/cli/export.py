"""``offmap export``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from offmap.cli import _options as options


@options.opens_guard(without=["device"])
def export(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    out: Path = typer.Argument(
        ..., help="guard.onnx, guard.pt2 for torch.export; or, for --triton, a model's folder."
    ),
    triton: bool = typer.Option(
        False, help="Write 1/model.onnx and config.pbtxt for the Triton server."
    ),
    device: str = typer.Option("cpu", help="Where a .pt2 graph is to run: cpu, cuda, ..."),
    opening: Any = None,
) -> None:
    """Write a guard as one graph: uint8 images to label, score, p-value and decision.

    An ONNX graph has an input alarm_rate, whose default is the guard's.

    Examples:
        offmap export guard/ guard.onnx

        offmap export guard/ models/guard --triton
    """
    import torch

    from offmap.cli._guards import open_guard
    from offmap.errors import ArgumentError
    from offmap.guard.export import export
    from offmap.guard.opening import shape_of
    from offmap.guard.triton import export_triton

    fitted_guard = open_guard(guard, replace(opening, device=device))
    if (triton or out.suffix == ".onnx") and fitted_guard.probe.device.type != "cpu":
        raise ArgumentError("an ONNX graph runs on any device: leave --device out")
    shape = shape_of(fitted_guard)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (64, *shape), generator=generator, device=generator.device
    ).byte()
    example = images.to(fitted_guard.probe.device)
    (export_triton if triton else export)(fitted_guard, out, example=example)
    typer.echo(f"Written to {out}; its answers on 64 random images are the guard's.")
