"""A monitor as a small file, from which it continues, equal to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from offmap._utils import records
from offmap.errors import ArgumentError, StoreError
from offmap.guard.certified import Certified
from offmap.guard.tally import Path as WealthPath
from offmap.guard.tally import Tally

if TYPE_CHECKING:
    from offmap.guard.monitor import Monitor


class Alarm(msgspec.Struct, frozen=True):
    """When a monitor found that the rate is broken.

    Args:
        sample: the sample that showed it, counted from 1.
        time: of it, as ISO 8601.
        change: the first sample behind the most likely time of the change; an estimate.
        alarms_before: samples called OOD before that change.
    """

    sample: int
    time: str
    change: int
    alarms_before: int


class Place(msgspec.Struct, frozen=True):
    """How far a log or a table was read.

    Args:
        position: in bytes, of a table in rows.
        digest: of all that was read, where the first line may be that of another table, too.
    """

    position: int = 0
    digest: str = ""


class _Runs(msgspec.Struct, frozen=True):
    gains: list[list[float]]
    samples: list[list[int]]
    alarms: list[list[int]]


class State(records.Record, frozen=True, kw_only=True):
    """What the file of a monitor holds."""

    certified: Certified
    alphas: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    delta: float
    thresholds: tuple[str, ...]
    tally: Tally
    path: WealthPath
    alarm: Alarm | None
    conforming: Alarm | None
    shown: int
    stakes: list[list[float]]
    exponents: list[list[int]]
    unbet: float
    runs: _Runs
    read: dict[str, Place]


_AS_THEY_ARE = (
    *("certified", "alphas", "delta", "thresholds", "tally", "path", "alarm", "conforming"),
    *("read", "shown"),
)


def write(monitor: Monitor, path: Path) -> None:
    """Write the state of a monitor in one step.

    Raises:
        ArgumentError: the file is not called .json.
    """
    if path.suffix != ".json":
        raise ArgumentError(f"{path}: the state of a monitor is a .json file")
    bets, runs = monitor.bets, monitor.runs
    state = {name: getattr(monitor, name) for name in _AS_THEY_ARE} | {
        "stakes": bets.stakes.tolist(),
        "exponents": bets.exponents.tolist(),
        "unbet": bets.unbet,
        "runs": _Runs(runs.gains.tolist(), runs.samples.tolist(), runs.alarms.tolist()),
    }
    content = msgspec.to_builtins(state, str_keys=True)
    records.write(path.parent, "monitor", content, {}, stem=path.stem, schema=State)


def read(path: Path) -> State:
    """What the file of a monitor holds.

    Raises:
        StoreError: it cannot be read, or is no such file.
    """
    return records.read_record(path, "monitor", State, made_by="offmap watch")


def restore(monitor: Monitor, state: State) -> None:
    """Bring a monitor into a saved state.

    Raises:
        StoreError: its numbers do not belong together.
    """
    bets, runs = monitor.bets, monitor.runs
    bets.stakes = _shaped(state.stakes, bets.stakes)
    bets.exponents = _shaped(state.exponents, bets.exponents)
    bets.unbet, bets.samples = state.unbet, state.tally.samples
    runs.gains = _shaped(state.runs.gains, runs.gains)
    runs.samples = _shaped(state.runs.samples, runs.samples)
    runs.alarms = _shaped(state.runs.alarms, runs.alarms)
    for name in _AS_THEY_ARE:
        setattr(monitor, name, getattr(state, name))


def _shaped(values: list[Any], like: np.ndarray) -> np.ndarray:
    try:
        array = np.array(values, dtype=like.dtype)
    except ValueError:  # rows of several lengths
        array = np.empty(0)
    if array.shape != like.shape:
        raise StoreError("the state of this monitor is of another form: begin a new one")
    return array
