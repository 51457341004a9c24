"""Metrics for Prometheus; of several workers, the sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from offmap.guard import Verdict
from offmap.serve.monitors import Shown

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # that of prometheus-client, where several processes count
_P = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counts of this process in a registry of its own, and what its monitor shows.

    Args:
        shown: tells the state of the monitor, or none.
        waiting: tells how many rows wait.
    """

    def __init__(self, shown: Callable[[], Shown | None], waiting: Callable[[], int]) -> None:
        own = CollectorRegistry()
        self.samples = Counter(
            "offmap_samples", "Samples by what was decided.", ["decision"], registry=own
        )
        self.p_value = Histogram(
            "offmap_p_value", "p-values of samples; of known ones, uniform.",
            buckets=_P, registry=own,
        )  # fmt: skip
        self.seconds = Histogram(
            "offmap_score_seconds", "From a request's first byte to its verdict.",
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.requests = Counter("offmap_requests", "Requests by status.", ["status"], registry=own)
        self.lost = Counter(
            "offmap_unrecorded", "Samples that the log or the monitor could not keep.", registry=own
        )
        self._state = _State(shown, waiting)
        self._registry = own
        if FOLDER not in os.environ:
            own.register(self._state)

    def count(self, verdict: Verdict) -> None:
        """Count the samples of a verdict."""
        unknown = int(verdict.is_ood.sum())
        for decision, samples in (("unknown", unknown), ("known", len(verdict) - unknown)):
            self.samples.labels(decision).inc(samples)
        for p in verdict.p_values.tolist():
            self.p_value.observe(p)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, os.environ[FOLDER])  # type: ignore[no-untyped-call]
        registry.register(self._state)
        return generate_latest(registry)


class _State(Collector):
    """Figures that are computed when Prometheus asks."""

    def __init__(self, shown: Callable[[], Shown | None], waiting: Callable[[], int]) -> None:
        self._shown, self._waiting = shown, waiting

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is looked up to register it

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "offmap_waiting_rows", "Rows that wait, of this worker.", self._waiting()
        )
        shown = self._shown()
        if shown is None:
            return
        texts = {
            "offmap_alarm_ratio": ("Share called unknown since the monitor began.", shown.ratio),
            "offmap_alarm_rate": ("Share of known samples that may be.", shown.alarm_rate),
            "offmap_monitor_log_wealth": (
                "Evidence that more are called unknown than may be; an alarm at its limit.",
                shown.log_wealth,
            ),
            "offmap_monitor_log_wealth_limit": ("log(1 / alpha).", shown.limit),
            "offmap_monitor_alarm": ("Whether the monitor has raised an alarm.", shown.alarmed),
        }
        for name, (text, value) in texts.items():
            yield GaugeMetricFamily(name, text, float(value))


def folder_of(path: Path) -> dict[str, str]:
    """The environment that several workers need before any of them counts."""
    path.mkdir(parents=True, exist_ok=True)
    return {FOLDER: str(path)}
