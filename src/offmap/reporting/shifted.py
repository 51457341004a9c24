"""Shifted ID data, as a section of a report."""

from __future__ import annotations

from offmap.evaluation import Results
from offmap.evaluation.shift import SHIFT_WORDS, accuracies, shift_columns
from offmap.reporting.sections import Section, Table, Text


def shifted(results: Results) -> list[Section]:
    """A table for each shifted set; no section where there is none."""
    if not (shifts := results.shifts):
        return []
    columns, names = shift_columns(shifts), list(dict.fromkeys(shift.set for shift in shifts))
    tables = []
    for i, name in enumerate(names):
        own = [s for s in shifts if s.set == name]
        rows = [[s.detector, *(f"{100 * getattr(s, each):.2f}" for each in columns)] for s in own]
        tables.append(Table(name, ["detector", *columns.values()], rows, name=f"shift-{i}"))
    words = [Text(line) for line in (SHIFT_WORDS, *accuracies(results).values())]
    return [Section("shifted", "ID that has shifted", [*words, *tables])]
