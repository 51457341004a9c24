"""Draws docs/measured.md from benchmarks/measured.json: ``python -m benchmarks.table``."""

from __future__ import annotations

from pathlib import Path

from benchmarks._stored import Row, stored

STORED = Path(__file__).with_name("measured.json")
PAGE = Path(__file__).parent.parent / "docs" / "measured.md"
HEAD = """# Measured

Ratios and times of the stored benchmarks: the median of interleaved runs, with the smallest
and the largest in brackets. [benchmarks/README.md](../benchmarks/README.md) explains each.

`python -m benchmarks --json benchmarks/measured.json` measures and stores them;
`python -m benchmarks.table` writes this page from that file.

| benchmark | what | measured | runs | target | command |
|---|---|---|---|---|---|
"""


def page(rows: list[Row]) -> str:
    """The page as text."""
    made_on = sorted({f"{r['date']}, {r['machine']}, {_versions(r)}" for r in rows})
    where = "".join(f"- {each}\n" for each in made_on)
    return HEAD + "".join(map(_line, rows)) + f"\nMeasured on\n\n{where}"


def _line(row: Row) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    spread = f"{row['median']:.3f}{unit} ({row['low']:.3f} to {row['high']:.3f})"
    cells = (row["benchmark"], row["what"], spread, row["runs"], row["bar"], f"`{row['command']}`")
    return f"| {' | '.join(map(str, cells))} |\n"


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in row["versions"].items())


if __name__ == "__main__":
    PAGE.write_text(page(stored(STORED)), encoding="utf-8")
    print(f"{PAGE.name} is written")
