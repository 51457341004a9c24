"""``offmap check``, ``offmap control``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from offmap.cli import _options as options
from offmap.cli._arguments import refuse_unused
from offmap.cli._output import check_outputs, write_guard, write_report

_LIMIT = typer.Option(None, min=1, help="A seeded N of each of the data.")


@options.opens_guard()
def check(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    data: list[str] = typer.Option(
        [], help="Fresh ID data, in no other role: names or paths, which are joined."
    ),
    ood: bool = typer.Option(False, help="The data is OOD: the share caught is measured."),
    sensitivity: bool = typer.Option(
        False, help="What the threshold would be, were the highest calibration scores outliers."
    ),
    groups: str | None = options.GROUPS,
    report: Path | None = options.REPORT_PAGE,
    limit: int | None = _LIMIT,
    transform: str | None = options.TRANSFORM,
    opening: Any = None,
) -> None:
    """Measure a guard's alarms on fresh data, against what it promises.

    Ends with status 1 if a certificate is broken.

    Examples:
        offmap check guard/ --data photos/fresh

        offmap check guard/ --data noise:gaussian --ood --sensitivity --report check.html
    """
    from offmap.cli._guards import load_like_fit, open_guard
    from offmap.errors import ArgumentError
    from offmap.guard.groups import by_path
    from offmap.guard.sensitivity import table

    check_outputs(report)
    if not data and not sensitivity:
        raise ArgumentError("give --data to check on, or --sensitivity")
    of_data = {"--ood": ood, "--groups": groups, "--limit": limit, "--transform": transform}
    if not data:
        refuse_unused(of_data, "without --data: give it")
    fitted_guard = open_guard(guard, opening)
    if sensitivity:
        typer.echo(table(fitted_guard.calibration.sensitivity()))
    checks = {}
    if data:
        grouping = None if groups is None else by_path(groups)
        result = fitted_guard.check(
            load_like_fit(fitted_guard, data, limit, transform), ood=ood, groups=grouping
        )
        checks[", ".join(data)] = result
        typer.echo(str(result))
    if report is not None:
        write_report(fitted_guard, report, checks=checks)
    if any(each.result == "broken" for each in checks.values()):
        raise typer.Exit(1)


@options.opens_guard(without=["alarm_rate"])
def control(
    guard: Path = options.guard_to_change("Folder of a calibrated guard."),
    data: list[str] = typer.Option(
        ..., help="Held-out ID data with labels: names or paths, which are joined."
    ),
    error_rate: float = typer.Option(0.02, help="Share of errors that is not exceeded."),
    confidence: float = typer.Option(0.95, help="That it is not, for these very images."),
    of: str = typer.Option(
        "all", help="Errors as a share of all images, or of those that are accepted."
    ),
    groups: str | None = options.GROUPS,
    limit: int | None = _LIMIT,
    transform: str | None = options.TRANSFORM,
    opening: Any = None,
) -> None:
    """Let a guard accept only what its network is seldom wrong on, at a certified rate.

    Example:
        offmap control guard/ --data photos/labelled --error-rate 0.02
    """
    from offmap.cli._guards import load_like_fit, open_guard
    from offmap.guard.groups import by_path

    grouping = None if groups is None else by_path(groups)
    fitted_guard = open_guard(guard, opening)
    images = load_like_fit(fitted_guard, data, limit, transform)
    fitted_guard.control(images, error_rate, confidence, of=of, groups=grouping)
    write_guard(fitted_guard, guard)
