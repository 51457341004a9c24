"""ID data that has shifted, as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offmap.evaluation import Results
from offmap.evaluation.shift import SHIFT_WORDS, Shift, accuracies, shift_columns
from offmap.reporting.sections import Section, Table, Text


def shifted(results: Results) -> list[Section]:
    """A table for each shifted set; no section where there is none."""
    if not (shifts := results.shifts):
        return []
    columns, names = shift_columns(shifts), list(dict.fromkeys(shift.set for shift in shifts))
    tables = [
        _table(name, f"shift-{i}", columns, [s for s in shifts if s.set == name])
        for i, name in enumerate(names)
    ]
    words = [Text(line) for line in (SHIFT_WORDS, *accuracies(results))]
    return [Section("shifted", "ID that has shifted", [*words, *tables])]


def _table(name: str, key: str, columns: Mapping[str, str], shifts: Sequence[Shift]) -> Table:
    rows = [[s.detector, *(f"{100 * getattr(s, each):.2f}" for each in columns)] for s in shifts]
    return Table(name, ["detector", *columns.values()], rows, name=key)
