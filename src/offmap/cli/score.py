"""``offmap score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from offmap.cli import _options as options

if TYPE_CHECKING:
    from offmap.data.types import Resize


@options.opens_guard()
def score(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    images: list[str] = typer.Argument(
        ..., help="Files, folders, patterns, Parquet; - for stdin; .jsonl of text or features."
    ),
    out: Path = typer.Option(..., help="verdicts.parquet, .csv or .jsonl"),
    sheet: Path | None = typer.Option(None, help="PNG of the most and least known images."),
    fail_above: float | None = typer.Option(
        None, help="Exit with status 1 if a larger share is unknown, or nothing can be read."
    ),
    log: Path | None = typer.Option(
        None, help="JSONL that the verdicts are added to, for `offmap watch`."
    ),
    explain: bool = typer.Option(False, help="Add a column that says why, in words."),
    batch_size: int = options.BATCH_SIZE,
    transform: str | None = options.TRANSFORM,
    engine: str | None = options.ENGINE,
    workers: int | None = options.WORKERS,
    opening: Any = None,
) -> None:
    """Write a verdict on each image; goes on where an interrupted run stopped.

    Examples:
        offmap score guard/ photos/ --out verdicts.parquet --sheet sheet.png

        find . -name '*.jpg' | offmap score guard/ - --out verdicts.csv --fail-above 0.2

        offmap score guard/ photos/ --out verdicts.parquet --engine ray --workers 8
    """
    from offmap.cli._guards import open_guard, workers_of
    from offmap.guard.files import score_files
    from offmap.guard.opening import shape_of

    several = workers_of(engine, workers)
    found = open_guard(guard, opening if several is None else opening.on_cpu)
    rows = bool(found.input_names) or len(found.input_shape or ()) == 1  # of text or features
    shape = None if rows else shape_of(found)
    how: dict[str, Any] = {
        "transform": transform,
        "batch_size": batch_size,
        "log": log,
        "explain": explain,
    }
    if several is None:
        summary = score_files(found, images, out, shape=shape, **how)
    else:
        from offmap import scale

        summary = scale.score(images, guard, out, workers=several, **vars(opening), **how)
    typer.echo(f"{summary}\nWritten to {out}")
    if sheet is not None and shape is None:
        typer.echo("offmap: rows have no pictures, so there is no sheet", err=True)
    elif sheet is not None and shape is not None:
        _draw(summary.extremes, shape, found.input_resize, sheet)
    if fail_above is not None and summary.unreadable == summary.images:
        typer.echo("offmap: none of the images can be read", err=True)
        raise typer.Exit(1)
    if fail_above is not None and summary.share > fail_above:
        typer.echo(f"offmap: {summary.share:.1%} unknown is above {fail_above:.1%}", err=True)
        raise typer.Exit(1)


def _draw(
    extremes: dict[str, list[dict[str, object]]],
    shape: tuple[int, int, int],
    resize: Resize,
    sheet: Path,
) -> None:
    """The extremes once more from their files; rows of Parquet files have none to show."""
    from offmap import data, plots

    channels, height, width = shape
    shape = (channels if channels == 1 else 3, height, width)  # whatever a transform makes
    rows = [row for kept in extremes.values() for row in kept if Path(str(row["path"])).is_file()]
    paths = [str(row["path"]) for row in rows]
    read = data.read_images(paths, shape, resize=resize)
    images = [image for _, image in read if not isinstance(image, data.Skipped)]
    titles = [f"{row['answer']}\np {row['p_value']:.3g}" for row in rows]
    heading = "least known first, then most known"
    plots.save(plots.image_grid(images, titles, heading=heading), sheet)
