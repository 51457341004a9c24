"""Our rows beside those that others published, and why they differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from offmap._utils.table import render
from offmap.detectors import detector
from offmap.errors import ArgumentError, OffmapError, UnknownNameError
from offmap.evaluation._inputs import catalogue_name
from offmap.evaluation.results import Results

SOURCES = ("openood",)


class Tuned(msgspec.Struct):
    """Which rows had their parameters chosen on OOD data, where that is known."""

    words: str
    detectors: list[str]
    unclear: list[str]


class Benchmark(msgspec.Struct):
    """The published rows of one ID set; AUROC in percent by detector and group."""

    network: str
    near: list[str]
    far: list[str]
    rows: dict[str, dict[str, float]]


class Source(msgspec.Struct):
    """The figures of one publication."""

    name: str
    source: str
    metric: str
    tuned: Tuned
    benchmarks: dict[str, Benchmark]


@dataclass(frozen=True)
class Beside:
    """Detectors that have a published row, beside it.

    Args:
        results: ours.
        source: the publication.
        benchmark: of it, the one of our ID set.
        rows: by our name of the detector, ours and theirs by group, in percent.
    """

    results: Results
    source: Source
    benchmark: Benchmark
    rows: dict[str, dict[str, tuple[float, float]]]

    def table(self) -> str:
        """Ours, theirs and the difference by group, then why they differ."""
        groups = list(next(iter(self.rows.values())))
        cells = {
            name + self._mark(name): [
                x for ours, theirs in row.values() for x in (ours, theirs, ours - theirs)
            ]
            for name, row in self.rows.items()
        }
        heading = f"{self.source.metric} in % beside {self.source.name}, means over the sets"
        body = render(
            cells,
            ["ours", "theirs", "minus"] * len(groups),
            above=[group for group in groups for _ in range(3)],
            star=False,
        )
        return "\n".join([heading, "", body, "", *self.reasons()])

    def reasons(self) -> list[str]:
        """Why the figures need not be the same, a line each."""
        settings, theirs = self.results.settings, self.benchmark
        network = settings.get("model") or settings.get("network", "another")
        lines = [f"network: ours is {network}, theirs {theirs.network}"]
        for group in ("near", "far"):
            ours, published = self.results.groups.get(group, []), getattr(theirs, group)
            if ours and set(ours) != set(published):
                lines.append(f"{group} sets: ours are {_listed(ours)}; theirs {_listed(published)}")
        if any(self._mark(name) == "†" for name in self.rows):
            lines.append(f"†: {self.source.tuned.words}; ours are the defaults, which saw no OOD")
        if any(self._mark(name) == "‡" for name in self.rows):
            lines.append("‡: whether its parameters were searched on OOD data is not clear")
        if unpublished := [name for name in self.results.detectors if name not in self.rows]:
            lines.append(f"no published row: {_listed(unpublished)}")
        return [*lines, f"source: {self.source.source}"]

    def _mark(self, name: str) -> str:
        entry, tuned = _entry(name), self.source.tuned
        return "†" if entry in tuned.detectors else "‡" if entry in tuned.unclear else ""


def beside(results: Results, source: str = "openood", *, benchmark: str | None = None) -> Beside:
    """Our rows beside published ones.

    Args:
        results: with OOD sets in groups called near, far, or both.
        source: "openood", the leaderboard of OpenOOD v1.5.
        benchmark: whose ID set is ours, such as cifar10; by default what the results' own says.

    Raises:
        UnknownNameError: no such source, or none of its benchmarks has that ID set.
        ArgumentError: no such groups, or no detector that has a published row.
    """
    own = next(s.source for s in results.sets if s.role == "id")
    published = benchmark_of(source, benchmark or own)
    groups: list[str] = [group for group in results.groups if group in ("near", "far")]
    if not groups:
        raise ArgumentError(
            "published figures are means over near and far sets: name the groups of yours so"
        )
    rows: dict[str, dict[str, tuple[float, float]]] = {
        name: {
            group: (100 * results.mean(name, group=group), published.rows[entry][group])
            for group in groups
        }
        for name in results.detectors
        if (entry := _entry(name)) in published.rows
    }
    if not rows:
        raise ArgumentError(
            f"none of these detectors has a published row: there are {_listed(published.rows)}"
        )
    return Beside(results, read(source), published, rows)


def benchmark_of(source: str, id: str) -> Benchmark:
    """The published rows for an ID set, by its name or a name with a split.

    Raises:
        UnknownNameError: there are none.
    """
    name = id.partition(":")[0].partition("[")[0]
    benchmarks = read(source).benchmarks
    if name not in benchmarks:
        raise UnknownNameError(
            f"{read(source).name} has no rows for the ID set {id!r}; it has {_listed(benchmarks)}"
        )
    return benchmarks[name]


@cache
def read(source: str) -> Source:
    """A publication's figures, from this package.

    Raises:
        UnknownNameError: there is no such source.
    """
    if source not in SOURCES:
        raise UnknownNameError(f"no published figures called {source!r}: {_listed(SOURCES)}")
    content = (files("offmap.evaluation") / f"{source}.json").read_bytes()
    return msgspec.json.decode(content, type=Source)


@cache
def _entry(name: str) -> str | None:
    try:
        return catalogue_name(detector(name))
    except OffmapError:  # a name that a user gave a detector
        return None


def _listed(names: Any) -> str:
    return ", ".join(names)
