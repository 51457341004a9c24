"""Headings and notes of the tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from offmap._utils.table import alike
from offmap.data import Skipped, skipped_in_words
from offmap.evaluation.tables import Grid

if TYPE_CHECKING:
    from offmap.evaluation.results import Results, SetInfo


def heading(results: Results, grid: Grid) -> list[str]:
    """The accuracy of the network, the metric, and how many samples it is of."""
    lines = []
    id_set = next(s for s in results.sets if s.role == "id")
    if results.accuracy:
        right, total = results.accuracy
        name = results.settings.get("id", id_set.source)
        lines.append(f"{name}: accuracy {right / total:.2%} ({right:,} of {total:,})")
    calibration = next((s for s in results.sets if s.role == "calibration"), None)
    holdout = f"; {calibration.n:,} more held out for calibration" if calibration else ""
    evaluated = results.rows[0].n_id if results.rows else id_set.n  # of some samples: how many
    lines.append(f"{grid.metric.heading}; {evaluated:,} ID samples evaluated{holdout}")
    if ratio := results.settings.get("ratio"):
        lines[-1] = f"{grid.metric.heading}; ID:OOD = {ratio}:1, seeded"
    return lines


def notes(sets: Sequence[SetInfo], left_out: Mapping[str, str]) -> list[str]:
    """What was left out or skipped, a line each."""
    lines = [f"left out: {names} ({why})" for names, why in alike(left_out)]
    names: set[tuple[str, ...]] = set()
    for info in sets:
        skipped, beside = (
            [Skipped(*file) for file in files if tuple(file) not in names]
            for files in (info.skipped, info.left_out)
        )
        names.update(map(tuple, info.skipped + info.left_out))  # parts of one set share them
        lines += filter(None, [skipped_in_words(info.name, skipped, beside)])
    return lines
