"""``offmap score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from offmap.cli.guard import DETECTORS, MODEL, TRANSFORM, WEIGHTS

if TYPE_CHECKING:
    from offmap.guard import Guard


def score(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    images: list[str] = typer.Argument(..., help="Files, folders, patterns, Parquet; - for stdin."),
    out: Path = typer.Option(..., help="verdicts.parquet, .csv or .jsonl"),
    sheet: Path | None = typer.Option(None, help="PNG of the most and least known images."),
    fail_above: float | None = typer.Option(
        None, help="Exit with status 1 if a larger share is unknown, or nothing can be read."
    ),
    batch_size: int = typer.Option(256, min=1),
    transform: str | None = TRANSFORM,
    model: str | None = MODEL,
    weights: Path | None = WEIGHTS,
    detectors: list[str] = DETECTORS,
) -> None:
    """Write a verdict on each image; goes on where an interrupted run stopped.

    Examples:
        offmap score guard/ photos/ --out verdicts.parquet --sheet sheet.png

        find . -name '*.jpg' | offmap score guard/ - --out verdicts.csv --fail-above 0.2
    """
    from offmap.cli._guards import open_guard
    from offmap.guard.files import score_files

    found = open_guard(guard, model, weights, detectors)
    summary = score_files(found, images, out, transform=transform, batch_size=batch_size)
    typer.echo(f"{summary}\nWritten to {out}")
    if sheet is not None:
        _draw(summary.extremes, found, sheet)
    if fail_above is not None and summary.unreadable == summary.images:
        typer.echo("offmap: none of the images can be read", err=True)
        raise typer.Exit(1)
    if fail_above is not None and summary.share > fail_above:
        typer.echo(f"offmap: {summary.share:.1%} unknown is above {fail_above:.1%}", err=True)
        raise typer.Exit(1)


def _draw(extremes: dict[str, list[dict[str, object]]], guard: Guard, sheet: Path) -> None:
    """The extremes once more from their files; rows of Parquet files have none to show."""
    from offmap import data, plots

    assert guard.input_shape is not None
    channels, height, width = guard.input_shape
    shape = (
        channels if channels == 1 else 3,
        height,
        width,
    )  # for the eye, whatever a transform makes
    rows = [row for kept in extremes.values() for row in kept if Path(str(row["path"])).is_file()]
    paths = [str(row["path"]) for row in rows]
    read = data.read_images(paths, shape, resize=guard.input_resize)
    images = [image for _, image in read if not isinstance(image, data.Skipped)]
    titles = [f"{row['answer']}\np {row['p_value']:.3g}" for row in rows]
    heading = "least known first, then most known"
    plots.save(plots.image_grid(images, titles, heading=heading), sheet)
