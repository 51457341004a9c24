"""``offmap report``."""

from __future__ import annotations

from pathlib import Path

import typer

from offmap.cli import _options as options


def report(
    subjects: list[str] = typer.Argument(
        ...,
        metavar="WHAT",
        help="Folder of results, a guard, a study or a run; verdicts or a log of them; the state "
        "of a watch. Several folders of results, or NAME=FOLDER, are taken together.",
    ),
    out: Path = typer.Option(
        Path("report.html"), callback=options.a_file, help="The page; the same in .json beside it."
    ),
    guard: Path | None = typer.Option(
        None, help="Folder of the guard, where verdicts do not say what it certifies."
    ),
    alarm_rate: float | None = typer.Option(
        None, help="Of verdicts that were made at another than the guard's."
    ),
    thumbnails: bool = typer.Option(True, help="Small pictures of samples, where there are any."),
    redact_paths: bool = typer.Option(
        False, "--redact-paths", help="Hide paths and keys of samples, to send it to others."
    ),
) -> None:
    """One HTML file, its verdict first: of results, of a guard, of verdicts, of a watch, ...

    It opens from disk and loads nothing from anywhere. Pictures of an evaluation need its data
    sets: those are in the reports that `offmap bench --report` and `offmap demo` write.

    Examples:
        offmap report out/bench --out report.html

        offmap report seed0=out/seed0 seed1=out/seed1 --out seeds.html

        offmap report guard/ --out guard.html

        offmap report log.jsonl --out today.html --redact-paths
    """
    from offmap.cli._guards import certified_by
    from offmap.cli._messages import say
    from offmap.cli._output import command
    from offmap.cli.compare import loaded
    from offmap.evaluation import aggregate
    from offmap.reporting import report as write

    certified = None if alarm_rate is None else certified_by(guard, alarm_rate)
    subject = aggregate(loaded(subjects)) if len(subjects) > 1 else subjects[0]
    page = write(
        subject, out, guard=certified or guard, thumbnails=thumbnails, redact_paths=redact_paths,
        command=command(),
    )  # fmt: skip
    say(f"{page.text('verdict')}\n\nWritten to {out} and {out.with_suffix('.json').name}")
