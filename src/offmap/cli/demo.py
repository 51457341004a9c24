"""``offmap demo``."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import typer

from offmap.cli import _options as options
from offmap.cli._messages import say
from offmap.cli._output import echo_files


def demo(
    out: Path = options.folder(Path("offmap-demo"), "Folder for tables and figures."),
    retrain: bool = typer.Option(
        False, help="Train the network anew, in a minute or two, and keep it."
    ),
    alarm_rate: float = typer.Option(0.05, help="Share of known letters that may be called OOD."),
    report: bool = typer.Option(True, help="Write report.html too."),
) -> None:
    """The main job on embedded data: fit every detector, evaluate, decide, draw.

    Ten letters are known, drawn in 21 fonts. Other letters and digits are near-OOD; Greek, Cyrillic
    and Georgian letters, textures, photographs, faces and noise are far-OOD. Needs no download.

    Examples:
        offmap demo

        offmap demo --retrain --out my-demo
    """
    from offmap._utils.percent import percent
    from offmap.demo import best, run

    results = run(out, retrain=retrain, alarm_rate=alarm_rate, report=report)
    top = best(results)
    rows = [row for row in results.rows if row.detector == top]
    calibration = next(s for s in results.sets if s.role == "calibration")
    caught = ", ".join(f"{row.set} {row.ood_caught:.1%}" for row in rows)
    sentences = (
        f"Best mean AUROC on this data: {top} ({results.summaries[top]}).",
        f"Its threshold, {rows[0].threshold:.4g}, is calibrated on {calibration.n} held-out known "
        f"letters for an alarm rate of {percent(alarm_rate)}.",
        f"It accepts {1 - (rows[0].id_alarm or 0):.1%} of the known test letters, and calls OOD: "
        f"{caught}.",
    )
    say("\n\n".join((results.table(), *(fill(each, 100) for each in sentences))))
    echo_files(out)
