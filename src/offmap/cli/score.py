"""``offmap score``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from offmap.cli import _options as options
from offmap.cli._output import check_outputs, write_report

if TYPE_CHECKING:
    from offmap.guard import Guard

Row = dict[str, object]
_EXPLAINED = 24  # at most, as each takes some fifty passes
_LETTERS = 22  # of a line that fits over its image


@options.opens_guard()
def score(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    images: list[str] = typer.Argument(
        ..., help="Files, folders, patterns, Parquet; - for stdin; .jsonl of text or features."
    ),
    out: Path = typer.Option(..., callback=options.a_file, help="verdicts.parquet, .csv or .jsonl"),
    sheet: Path | None = typer.Option(
        None,
        callback=options.a_file,
        help="PNG of the most and least known images; with --explain, of what raises the score; "
        "with --nearest, of training images like them.",
    ),
    fail_above: float | None = typer.Option(
        None,
        min=0,
        max=1,
        help="Exit with status 1 if a larger share is unknown, or nothing can be read.",
    ),
    log: Path | None = typer.Option(
        None,
        callback=options.a_file,
        help="JSONL that the verdicts are added to, for `offmap watch`.",
    ),
    report: Path | None = options.REPORT_PAGE,
    explain: bool = typer.Option(False, help="Add a column that says why, in words."),
    nearest: list[str] = typer.Option(
        [],
        help="What a guard with KNN was fitted on: --sheet then shows the training images that "
        "each lies nearest to.",
    ),
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
    from offmap._utils.percent import about, percent
    from offmap.cli._guards import open_guard, workers_of
    from offmap.errors import ArgumentError
    from offmap.guard.files import score_files
    from offmap.guard.neighbours import bank_of
    from offmap.guard.opening import shape_of

    if nearest and (sheet is None or transform is not None):
        raise ArgumentError("--nearest is for what --sheet shows: give it, without --transform")
    check_outputs(report, sheet)
    processes = workers_of(engine, workers)
    fitted_guard = open_guard(guard, opening if processes is None else opening.on_cpu)
    if nearest:
        bank_of(fitted_guard)  # refuses before the work
    # Rows of text or of features have no shape of images.
    rows = bool(fitted_guard.input_names) or len(fitted_guard.input_shape or ()) == 1
    shape = None if rows else shape_of(fitted_guard)
    score_options: dict[str, Any] = {
        "transform": transform,
        "batch_size": batch_size,
        "log": log,
        "explain": explain,
    }
    if processes is None:
        summary = score_files(fitted_guard, images, out, shape=shape, **score_options)
    else:
        from offmap import scale

        summary = scale.score(
            images, guard, out, workers=processes, **vars(opening), **score_options
        )
    typer.echo(f"{summary}\nWritten to {out}")
    if report is not None:
        write_report(out, report, guard=fitted_guard)
    if sheet is not None and shape is None:
        typer.echo("offmap: rows have no pictures, so there is no sheet", err=True)
    elif sheet is not None and shape is not None:
        reasons = explain and transform is None  # else what is shown is not what the guard sees
        _draw(summary.extremes, shape, fitted_guard, sheet, explain=reasons, nearest=nearest)
    if fail_above is not None and summary.unreadable == summary.images:
        typer.echo("offmap: none of the images can be read", err=True)
        raise typer.Exit(1)
    if fail_above is not None and summary.share > fail_above:
        share, most = about(summary.share), percent(fail_above, 1)
        typer.echo(f"offmap: {share} unknown is above {most}", err=True)
        raise typer.Exit(1)


def _draw(
    extremes: dict[str, list[Row]],
    shape: tuple[int, int, int],
    guard: Guard,
    sheet: Path,
    *,
    explain: bool,
    nearest: list[str],
) -> None:
    """Draw the extremes, read again from their files; rows of Parquet files have none."""
    from offmap import data, plots
    from offmap.cli._guards import load_like_fit
    from offmap.guard import nearest as nearest_in_fit
    from offmap.guard import occlusion

    channels, height, width = shape
    shape = (channels if channels == 1 else 3, height, width)  # whatever a transform makes
    rows = [row for row in chain(*extremes.values()) if Path(str(row["path"])).is_file()]
    named = data.read_images([str(row["path"]) for row in rows], shape, resize=guard.input_resize)
    images = zip(rows, (image for _, image in named), strict=True)
    pairs = [(row, image) for row, image in images if not isinstance(image, data.Skipped)]
    if nearest or explain:
        pairs = pairs[:_EXPLAINED]
    drawn = [image for _, image in pairs]
    titles = [_title(row, guard.classes) for row, _ in pairs]
    if nearest:
        near = nearest_in_fit(guard, drawn, load_like_fit(guard, nearest)) if pairs else []
        heading = "least known first, and the training images nearest to each"
        figure = plots.neighbours(drawn, near, titles, heading=heading)
    elif explain:
        titles = [f"{Path(str(r['path'])).name}: {r['answer']}\n{r['reason']}" for r, _ in pairs]
        maps = [occlusion(guard, image) for image in drawn]
        heading = "least known first; red raises the score, blue lowers it"
        figure = plots.reasons(drawn, maps, titles, heading=heading)
    else:
        heading = "least known first, then most known"
        figure = plots.image_grid(drawn, titles, heading=heading)
    plots.save(figure, sheet)


def _title(row: Row, classes: Sequence[str]) -> str:
    """The file, its answer with the network's prediction where that is refused, and its p-value."""
    answer, label = str(row["answer"]), row["label"]
    if row["is_ood"] and isinstance(label, int):
        answer += f", said {classes[label] if label < len(classes) else label}"
    lines = Path(str(row["path"])).name, answer, f"p {row['p_value']:.3g}"
    return "\n".join(
        line if len(line) <= _LETTERS else f"{line[: _LETTERS - 1]}…" for line in lines
    )
