"""What was measured, as a JSON file: machine, versions, and a row for each ratio or time."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._measure import versions

Row = dict[str, Any]
APART = 0.25  # share of the stored median by which another may lie outside of the stored spread


def read_rows(path: Path) -> list[Row]:
    """The rows that benchmarks have added to a file of JSON lines."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sign(path: Path, benchmark: str, command: str) -> None:
    """Say of the new rows in a file which benchmark made them, and how."""
    rows = read_rows(path)
    signature: dict[str, Any] = {
        "benchmark": benchmark,
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    signature |= {"machine": machine(), "versions": versions()}
    signed = [row if "benchmark" in row else signature | row for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in signed), encoding="utf-8")


def machine() -> str:
    """The kind of machine, and no more."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def add(path: Path, rows: list[Row]) -> None:
    """Keep rows in a file, in the place of earlier ones of the same benchmarks."""
    kept = stored(path) if path.exists() else []
    again = {row["benchmark"] for row in rows}
    together = [row for row in kept if row["benchmark"] not in again] + rows
    together.sort(key=lambda row: row["benchmark"])
    path.write_text(json.dumps({"rows": together}, indent=1) + "\n", encoding="utf-8")


def stored(path: Path) -> list[Row]:
    """The rows of a file that :func:`add` wrote."""
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def warnings(path: Path, rows: list[Row]) -> Iterator[str]:
    """A line for each row whose median is far from the stored one, and for none to compare with."""
    before = {(row["benchmark"], row["what"]): row for row in stored(path)}
    for row in rows:
        known = before.get((row["benchmark"], row["what"]))
        if known is None:
            yield f"::notice::{row['benchmark']}, {row['what']}: nothing stored to compare with"
        elif far(row["median"], known):
            yield (
                f"::warning::{row['benchmark']}, {row['what']}: {row['median']:.3f} "
                f"({row['low']:.3f} to {row['high']:.3f}), and {known['median']:.3f} is stored"
            )


def far(now: float, known: Row) -> bool:
    """Whether a median lies outside of a stored spread by more than a quarter of its median.

    >>> known = {"median": 1.0, "low": 0.9, "high": 1.1}
    >>> far(1.3, known), far(1.4, known), far(0.6, known)
    (False, True, True)
    """
    room = APART * abs(known["median"])
    return not known["low"] - room <= now <= known["high"] + room
