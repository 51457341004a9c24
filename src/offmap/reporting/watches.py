"""The sections on a monitor: whether more is called OOD than the calibration set allows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from offmap._utils.percent import at_most
from offmap.guard import Monitor
from offmap.reporting.drawings import bars, lines
from offmap.reporting.sections import Figure, Section, Table, Text

_CLASSES = 30  # with the highest rates are shown


class Watch:
    """The content of a report on a monitor.

    Args:
        monitor: that has seen some samples.
        command: that made the report.
    """

    def __init__(self, monitor: Monitor, command: str) -> None:
        self.monitor, self.command = monitor, command

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"A watch over the guard {self.monitor.certified.guard}"

    def sections(self) -> list[Section]:
        """All sections, the verdict first."""
        monitor = self.monitor
        texts = [Text(line) for line in monitor.explain().splitlines()]
        values = p_values(monitor.tally.p_values, monitor.certified.tests)
        rates = certified_rates(monitor, monitor.tally.by_class)
        by_class = classes(monitor.tally.by_class, {}, rates)
        parts = [Section("verdict", "Verdict", [*texts]), wealth(monitor), values, by_class]
        command = Text(f"Command: {self.command}")
        parts += [Section("settings", "Settings", [command])] if self.command else []
        return [part for part in parts if part.blocks]


def certified_rates(monitor: Monitor | None, labels: Iterable[int]) -> dict[int, float] | None:
    """The rate that is certified of ID, by predicted class, if it is known and these differ."""
    if monitor is None or monitor.certified.rule != "per_class":
        return None
    return {label: float(monitor.rates[monitor.certified.group(label)]) for label in labels}


def wealth(monitor: Monitor) -> Section:
    """The path of the bets."""
    points = [*monitor.path.points, (monitor.samples, monitor.log_wealth)]
    limit = -math.log(monitor.alpha)
    words = (
        "A bet that the guard calls no more samples OOD than its calibration set certifies gains "
        f"where it does. An alarm is raised where the logarithm of its wealth reaches {limit:.2f} "
        "(dashed)."
    )
    if monitor.alarm is not None:
        words += f" The change is estimated to lie near sample {monitor.alarm.change:,}."
    text = f"Log wealth over {monitor.samples:,} samples: now {monitor.log_wealth:.3g}."
    of = {"log wealth": ([float(n) for n, _ in points], [y for _, y in points])}
    drawing = lines("Log wealth", text, of, x="samples", y="log wealth", limit=limit)
    return Section("watch", "Over time", [Text(words), Figure("wealth", text, drawing)])


def p_values(counts: list[int], tests: int = 1) -> Section:
    """Their histogram, which of ID samples is level.

    Args:
        counts: in bins of one width.
        tests: detectors of which the lowest p-value counts, by Bonferroni.
    """
    if not sum(counts):
        return Section("p-values", "P-values")
    share = counts[0] / sum(counts)
    words = "How rare a score as high is among the calibration samples. "
    words += (
        "Of ID samples the bars are level (dashed); OOD samples that the detector sees pile up on "
        "the left."
        if tests == 1
        else f"The lowest of {tests} p-values counts, times their number and at most 1: so of ID "
        "samples the bars need not be level, and the last is the highest; OOD samples that a "
        "detector sees pile up on the left."
    )
    text = f"P-values of {sum(counts):,} samples in {len(counts)} bins; {share:.1%} in the first."
    level = 1 / len(counts) if tests == 1 else None
    drawing = bars("P-values", text, counts, (0, 1), x="p-value", expected=level)
    return Section("p-values", "P-values", [Text(words), Figure("p-values", text, drawing)])


def classes(
    counts: Mapping[int, tuple[int, int]],
    names: Mapping[int, str],
    rates: Mapping[int, float] | None = None,
) -> Section:
    """Samples and alarms by predicted class, the highest share of alarms first.

    Args:
        counts: samples and alarms of each.
        names: of the classes, where known.
        rates: that are certified of each, if these differ.
    """
    if not counts:
        return Section("classes", "By predicted class")
    order = sorted(counts, key=lambda label: -counts[label][1] / counts[label][0])[:_CLASSES]
    rows = [
        [
            names.get(label, str(label)),
            f"{counts[label][0]:,}",
            f"{counts[label][1]:,}",
            f"{counts[label][1] / counts[label][0]:.1%}",
            *([] if rates is None else [at_most(rates[label])]),
        ]
        for label in order
    ]
    head = ["class", "samples", "called OOD", "share"]
    head += [] if rates is None else ["certified of ID: at most"]
    more = "" if len(order) == len(counts) else f"; the first {len(order)} of {len(counts)}"
    table = Table(f"By predicted class, the highest share first{more}", head, rows)
    return Section("classes", "By predicted class", [table])
