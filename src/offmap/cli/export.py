"""``offmap export``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli.guard import DETECTORS, MODEL, WEIGHTS


def export(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    out: Path = typer.Argument(..., help="guard.onnx, or guard.pt2 for torch.export."),
    model: str | None = MODEL,
    weights: Path | None = WEIGHTS,
    detectors: list[str] = DETECTORS,
) -> None:
    """Write a guard as one graph: uint8 images to label, score, p-value and decision.

    Example:
        offmap export guard/ guard.onnx
    """
    import torch

    from offmap.cli._guards import open_guard
    from offmap.errors import ArgumentError
    from offmap.guard.export import export

    found = open_guard(guard, model, weights, detectors)
    if found.input_shape is None:
        raise ArgumentError("this guard does not know the size of its images: export it in Python")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *found.input_shape), generator=generator).byte()
    export(found, out, example=images)
    typer.echo(f"Written to {out}; its answers on 64 random images are the guard's.")
