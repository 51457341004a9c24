"""A log of verdicts, watched from where the last reading ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from offmap._utils.percent import percent
from offmap.errors import ArgumentError, StoreError
from offmap.guard import _watch_words as words
from offmap.guard.certified import Certified
from offmap.guard.log_rows import Tail, rows_of
from offmap.guard.monitor import Monitor

_SAVE_EVERY = 10_000  # rows between two writings of the state


@dataclass
class Watch:
    """Feeds a log of verdicts to a monitor, whose state file also holds how far the log was read.

    Killed at any time, it continues from the state file as if nothing had happened.

    Args:
        log: see :class:`offmap.guard.Log`; or what ``offmap score`` wrote.
        state: file of the monitor; where it exists, the monitor continues from it.
        certified: what the guard certifies, needed for tables; a log holds it itself, at each
            opening, and what it holds counts.
        alpha: of a new monitor.
        delta: of a new monitor.

    Attributes:
        monitor: once there is something to watch.
        unread: rows without a verdict, as their file could not be read.
        torn: incomplete lines.
    """

    log: Path
    state: Path | None = None
    certified: Certified | None = None
    alpha: float = 0.05
    delta: float = 0.05
    monitor: Monitor | None = None
    unread: int = 0
    torn: int = 0

    def __post_init__(self) -> None:
        if self.state is not None and self.state.is_file():
            self.monitor = Monitor.load(self.state)
            self._check_guard(self.monitor.certified.guard)

    def _check_guard(self, guard: str) -> None:
        """Refuse a log or state of another guard than the one given."""
        if self.certified is not None and self.certified.guard != guard:
            raise ArgumentError(
                f"{self.log} or its state is of the guard {guard}, and the one given is "
                f"{self.certified.guard}: give the guard whose verdicts these are, as it was then"
            )

    def go_on(self, tail: Tail | None = None) -> Iterator[str]:
        """Read the rows added since; yields a line for each event.

        Args:
            tail: of a log that is read repeatedly.

        Raises:
            StoreError: the log, or the state, cannot be read; or the log is another than the one
                that was read, and begins with the same row.
            ArgumentError: the log is of another guard, or does not say which guard it is of.
        """
        read = {} if self.monitor is None else self.monitor.read
        i = 0
        rows = rows_of(self.log, read) if tail is None else tail.rows(read)
        for i, (row, log, place) in enumerate(rows, 1):
            yield from self._read(row)
            if self.monitor is not None:
                self.monitor.read[log] = place
            if i % _SAVE_EVERY == 0:
                self.save()
        if i:
            self.save()

    def save(self) -> None:
        """Write the state, if it is kept."""
        if self.state is not None and self.monitor is not None:
            self.monitor.save(self.state)

    def _read(self, row: dict[str, Any] | None) -> Iterator[str]:
        if row is None:
            self.torn += 1
        elif "certified" in row:
            yield from self._certify(row["certified"])
        elif row["is_ood"] is None:
            self.unread += 1
        else:
            yield from self._judged(row)

    def _certify(self, record: Any) -> Iterator[str]:
        try:
            certified = msgspec.convert(record, Certified)
        except msgspec.ValidationError as error:
            raise StoreError(
                f"{self.log} does not say what its guard certifies: {error}"
            ) from error
        if self.monitor is None:
            self._check_guard(certified.guard)
            self.monitor = Monitor(certified, self.alpha, self.delta)
            return
        before = self.monitor.certified
        self.monitor.go_on_with(certified)
        if before.threshold != certified.threshold:
            yield (
                f"threshold changed behind sample {self.monitor.samples:,}, to an alarm rate of "
                f"{percent(certified.alarm_rate, 2)}: {len(self.monitor.thresholds)} thresholds "
                "have each spent delta"
            )

    def _judged(self, row: dict[str, Any]) -> Iterator[str]:
        monitor, certified = self.monitor, self.certified
        # A table does not say its threshold, nor does a log whose first line was cut off.
        unsaid = "guard" not in row or monitor is None or monitor.certified is certified
        if certified is not None and unsaid:
            if monitor is None:
                self._check_guard(row.get("guard", certified.guard))
                monitor = self.monitor = Monitor(certified, self.alpha, self.delta)
            elif monitor.certified is not certified:
                monitor.go_on_with(certified)
            certified.check_judged(row["is_ood"], row["label"], row["p_value"])
        if monitor is None:
            raise ArgumentError(
                f"{self.log} does not say of which guard its verdicts are: give --guard FOLDER"
            )
        if row.get("guard", monitor.certified.guard) != monitor.certified.guard:
            raise StoreError(f"{self.log} has verdicts of several guards, mixed: give each a log")
        alarm, conforming = monitor.alarm, monitor.conforming
        monitor.see(row["is_ood"], row["label"], row["p_value"], time=row.get("time"))
        if monitor.alarm is not alarm:
            yield str(monitor)
        if monitor.conforming is not conforming:
            yield words.conforming(monitor)


def watched(watch: Watch, tell: Callable[[str], None], wait: Callable[[], bool]) -> Monitor | None:
    """Read a log until ``wait`` ends it; the monitor, if there was anything to watch.

    Args:
        watch: of the log.
        tell: gets each line.
        wait: returns when the log may have grown; false ends it.
    """
    with Tail(watch.log) as tail:
        while True:
            for line in watch.go_on(tail):
                tell(line)
            if not wait():
                return watch.monitor
