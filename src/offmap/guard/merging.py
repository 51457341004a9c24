"""Monitors of several streams behind one guard, taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add

import msgspec
import numpy as np

from offmap._utils.percent import percent
from offmap.errors import ArgumentError
from offmap.guard._evidence import SHARES
from offmap.guard.monitor import Monitor
from offmap.guard.tally import Tally


class Shard(msgspec.Struct, frozen=True):
    """A monitor of its own stream.

    Args:
        name: of the stream.
        samples: seen.
        log_wealth: at that time.
        alarmed: by itself.
    """

    name: str
    samples: int
    log_wealth: float
    alarmed: bool


class Merged(msgspec.Struct, frozen=True):
    """What several monitors of one guard show together, at the time of merging.

    Args:
        guard: hash.
        shards: in the order in which they were given.
        log_wealth: of the mean of their wealths.
        alpha: of all of them.
        delta: of all of them, once for each threshold.
        ood_share: a share that OOD samples have exceeded in one of the streams at some time.
        tally: counts of all of them.
    """

    guard: str
    shards: tuple[Shard, ...]
    log_wealth: float
    alpha: float
    delta: float
    ood_share: float
    tally: Tally

    @property
    def alarmed(self) -> bool:
        """Whether they show together that the rate is broken."""
        return self.log_wealth >= -math.log(self.alpha)

    def __str__(self) -> str:
        names = ", ".join(f"{shard.name} {shard.samples:,}" for shard in self.shards)
        state = (
            f"ALARM; the share of OOD has exceeded {self.ood_share:.0%} in one of them"
            if self.alarmed
            else "no more than the calibration set allows"
        )
        return (
            f"{len(self.shards)} streams ({names} samples), {self.tally.alarms:,} of "
            f"{self.tally.samples:,} called OOD: {state}. A false alarm, ever, has a probability "
            f"of at most {percent(self.alpha + self.delta, 1)}."
        )


def merged(monitors: Mapping[str, Monitor]) -> Merged:
    r"""What monitors of one guard show together: the mean of their wealths, against 1/alpha.

    At each time each wealth is a supermartingale given all that was seen in any stream, and so is
    their mean, whatever the streams' lengths: it starts at 1, and Ville's inequality holds. One
    stream of ``m`` that goes astray must win ``m`` times as much as if it were alone. Verdicts of
    several streams replayed into one monitor in an order chosen afterwards, or wealths that are
    added or multiplied selectively, promise nothing.

    Args:
        monitors: by the name of the stream, in the order that is to be recorded.

    Raises:
        ArgumentError: there are none; they are not of one guard, threshold, alpha and delta; or one
            was reset, whose wealth began anew.
    """
    if not monitors:
        raise ArgumentError("there are no monitors to merge")
    first = next(iter(monitors.values()))
    for name, monitor in monitors.items():
        if len(monitor.alphas) > 1:
            raise ArgumentError(
                f"the monitor {name} was reset, and its wealth began anew: leave it out"
            )
        identity = monitor.certified, monitor.alpha, monitor.delta
        if identity != (first.certified, first.alpha, first.delta):
            raise ArgumentError(
                f"the monitor {name} is not of the guard, threshold, alpha and delta of the first: "
                "merge those of one guard"
            )
    rows = np.array([monitor.log_wealths for monitor in monitors.values()])
    means = np.logaddexp.reduce(rows, axis=0) - math.log(len(rows))
    crossings = means[: len(SHARES)] >= -math.log(first.alpha)
    return Merged(
        guard=first.certified.guard,
        shards=tuple(
            Shard(name, monitor.samples, monitor.log_wealth, monitor.alarmed)
            for name, monitor in monitors.items()
        ),
        log_wealth=float(means[0]),
        alpha=first.alpha,
        delta=first.delta * len({t for m in monitors.values() for t in m.thresholds}),
        ood_share=float((SHARES * crossings).max()),
        tally=reduce(add, (monitor.tally for monitor in monitors.values()), Tally()),
    )
