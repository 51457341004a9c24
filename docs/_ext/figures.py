"""The figures of a detector, out of the tables of docs/benchmarks.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """One table: its heading, and what it says of each detector by column."""

    heading: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]


def tables(page: Path) -> list[Figures]:
    """Every block of a page whose first column is "detector", with the heading above it."""
    parts = re.split(r"^#+ (.*)\n", page.read_text(), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    return [
        _table(heading, block)
        for heading, text in sections
        for block in re.findall(r"^```\n(detector .*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def _table(heading: str, block: str) -> Figures:
    # Columns stand two spaces or more apart, as headings hold single ones.
    (_, *columns), *rows = (re.split(r"\s{2,}", line.strip()) for line in block.splitlines())
    return Figures(heading, tuple(columns), {row[0]: tuple(row[1:]) for row in rows})
