"""A monitor that is kept in a file, and those of several workers taken together."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from offmap._utils.files import claimed
from offmap.errors import ArgumentError, StoreError
from offmap.guard import Certified, Log, Monitor, Verdict, merged
from offmap.serve.settings import Settings

_EVERY = 1.0  # seconds between two writings of a state


@dataclass(frozen=True)
class Shown:
    """What a monitor shows.

    Args:
        samples: seen.
        alarms: samples called unknown.
        log_wealth: now.
        limit: of it, where an alarm is raised.
        alarmed: whether one was.
        alarm_rate: of the guard.
    """

    samples: int
    alarms: int
    log_wealth: float
    limit: float
    alarmed: bool
    alarm_rate: float

    @property
    def ratio(self) -> float:
        """Share of samples called unknown."""
        return self.alarms / self.samples if self.samples else 0.0


class Slot:
    """A number that no other worker of the same folders has.

    Raises:
        StoreError: all numbers are taken by other processes.
    """

    def __init__(self, settings: Settings) -> None:
        self.number = 0
        self._file: TextIO | None = None
        folder = settings.monitor_state or settings.log
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(settings.workers):
            try:
                self._file = claimed(folder / f".worker-{number}")
            except StoreError:
                continue
            self.number = number
            return
        raise StoreError(
            f"{settings.workers} processes use {folder} already: stop them, or give another folder"
        )

    def free(self) -> None:
        """Release the number."""
        if self._file is not None:
            self._file.close()


class Book:
    """The log and the monitor of one guard, by one worker.

    Args:
        certified: what the guard certifies.
        settings: where they are kept.
        slot: of the worker.

    Raises:
        StoreError: another process writes the log, or the state cannot be read.
    """

    def __init__(self, certified: Certified, settings: Settings, slot: int) -> None:
        self.certified = certified
        name = f"{certified.guard}-{slot}"
        state = settings.monitor_state
        self._state = None if state is None else state / f"{name}.json"
        if self._state is not None and self._state.is_file():
            self.monitor = Monitor.load(self._state, certified)
        else:
            self.monitor = Monitor(certified)
        self._log: Log | None = None
        if settings.log is not None:
            settings.log.mkdir(parents=True, exist_ok=True)
            self._log = Log(settings.log / f"{name}.jsonl", certified)
        self._saved, self._dirty = 0.0, True
        self.save()

    def go_on_with(self, certified: Certified) -> None:
        """The same guard at another threshold."""
        if certified == self.certified:
            return
        self.monitor.go_on_with(certified)
        self.certified = certified
        if self._log is not None:
            self._log.go_on_with(certified)

    def add(self, verdict: Verdict, names: list[str]) -> None:
        """Add the samples of a verdict."""
        self._dirty = True
        self.monitor.update(verdict)
        if self._log is not None:
            self._log.add(verdict, names)

    @property
    def shown(self) -> Shown:
        """What the monitor shows now."""
        return _shown(self.monitor)

    def save(self) -> None:
        """Write the state, if it has changed, and has a file."""
        self._saved = time.monotonic()
        if self._dirty and self._state is not None:
            self.monitor.save(self._state)
            self._dirty = False

    def save_now_and_then(self) -> None:
        """Write the state, at most once a second."""
        if time.monotonic() - self._saved >= _EVERY:
            self.save()

    def close(self) -> None:
        """Write the state, and release the log, even where the disk is full."""
        try:
            self.save()
        finally:
            if self._log is not None:
                self._log.close()


def _shown(monitor: Monitor) -> Shown:
    tally, limit = monitor.tally, -math.log(monitor.alpha)
    return Shown(
        tally.samples, tally.alarms, monitor.log_wealth, limit, monitor.alarmed,
        monitor.certified.alarm_rate,
    )  # fmt: skip


def shown_together(folder: Path, certified: Certified) -> Shown | None:
    """What the monitors of all workers of a guard show, from their files.

    The mean of their wealths, for which :func:`offmap.guard.merged` promises; where they cannot be
    merged, as one was reset, the lowest wealth.
    """
    name = re.compile(rf"{re.escape(certified.guard)}-\d+\.json")
    paths = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    # A worker without a request since the rate was changed, or one of an earlier run with more
    # workers, is at another threshold. That affects its next bets, and not its wealth.
    monitors = {path.stem: Monitor.load(path, certified) for path in paths}
    if not monitors:
        return None
    shown = [_shown(monitor) for monitor in monitors.values()]
    samples, alarms = sum(each.samples for each in shown), sum(each.alarms for each in shown)
    try:
        merger = merged(monitors)
    except ArgumentError:
        log_wealth = min(each.log_wealth for each in shown)
        alarmed = all(each.alarmed for each in shown)
    else:
        log_wealth, alarmed = merger.log_wealth, merger.alarmed
    return Shown(samples, alarms, log_wealth, shown[0].limit, alarmed, certified.alarm_rate)
