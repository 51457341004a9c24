"""Interleaved pairs of timings, the lines that every benchmark prints, and the same as data."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from operator import sub, truediv
from typing import Any

PACKAGES = ("offmap", "torch", "numpy")
ROWS = "OFFMAP_BENCH_ROWS"  # names the file that rows are added to, for whoever runs several


@dataclass(frozen=True)
class Pairs:
    """Seconds of two things that ran in turn.

    Args:
        a: name and seconds of one.
        b: of the other, each run just after that of ``a``.
    """

    a: tuple[str, list[float]]
    b: tuple[str, list[float]]

    def print(self, bar: str) -> None:
        """Both times, and their ratio pair by pair."""
        self._print_times()
        ratios = self._each(truediv)
        print(f"ratio, {self._names('/')}: {spread(ratios)}; bar {bar}")
        keep(self._names("/"), ratios, bar)

    def print_difference(self, bar: str) -> None:
        """Both times, and what ``a`` takes more than ``b``, pair by pair."""
        self._print_times()
        seconds = self._each(sub)
        print(f"difference, {self._names('-')}: {spread(seconds, ' s')}; bar {bar}")
        keep(self._names("-"), seconds, bar, unit="s")

    def _print_times(self) -> None:
        for name, seconds in (self.a, self.b):
            print(f"{name}: {spread(seconds, ' s')}")

    def _names(self, sign: str) -> str:
        return f"{self.a[0]} {sign} {self.b[0]}"

    def _each(self, of: Callable[[float, float], float]) -> list[float]:
        return [of(x, y) for x, y in zip(self.a[1], self.b[1], strict=True)]


def interleaved(
    a: tuple[str, Callable[[], object]],
    b: tuple[str, Callable[[], object]],
    pairs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Pairs:
    """Time A B A B ... after one warm-up of each: what slows the machine then slows both."""
    a[1]()
    b[1]()
    found = Pairs((a[0], []), (b[0], []))
    for _ in range(pairs):
        found.a[1].append(seconds(a[1], clock))
        found.b[1].append(seconds(b[1], clock))
    return found


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call, by default on the wall."""
    start = clock()
    run()
    return clock() - start


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, and the smallest and largest value."""
    low, high = min(values), max(values)
    median = statistics.median(values)
    return f"median {median:.3f}{unit} ({low:.3f} to {high:.3f}, {len(values)} pairs)"


def keep(what: str, values: Sequence[float], bar: str = "none", *, unit: str = "") -> None:
    """Add median and spread to the rows of ``python -m benchmarks --json``, if that runs this."""
    if path := os.environ.get(ROWS):
        spread = {"median": statistics.median(values), "low": min(values), "high": max(values)}
        row = {"what": what, **spread, "runs": len(values), "unit": unit, "bar": bar}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def versions() -> dict[str, str]:
    """Of Python and what the timings rest on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def arguments(doc: str | None, *, pairs: int = 7) -> argparse.ArgumentParser:
    """The options that all timings share."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=pairs, help=f"pairs of runs ({pairs})")
    parser.add_argument("--limit", type=int, help="samples of each set, for a quick look")
    return parser


def print_settings(packages: Sequence[str] = (), **settings: Any) -> None:
    """Versions, machine and whatever else both sides share."""
    versions = " ".join(f"{name} {_version(name)}" for name in (*PACKAGES, *packages))
    print(f"python {platform.python_version()} {versions}; {platform.system()}", end=" ")
    print(platform.machine(), *(f"{name} {value}" for name, value in settings.items()), sep="; ")
    sys.stdout.flush()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
