"""False alarms and delays of ``offmap.Monitor``, beside a plain conformal test martingale.

``python -m benchmarks.monitor [--runs 2000] [--seed 0]``

Streams are simulated: calibration scores and ID samples are uniform, OOD samples lie above all of
them and are all called OOD. Each run has a calibration set of its own, so its true rate of alarms
is a draw from ``Beta(k, n + 1 - k)``. The plain martingale (the simple jumper of Vovk et al., 2021,
on smoothed p-values) takes these for independent, which they are not given one calibration set.
Bars: false alarms at most ``alpha + delta``, 10 %; at ``n = 1,000`` a median delay of at most 350,
75 and 25 samples at 5, 10 and 20 % of OOD from the start, and 150 at 20 % behind 10,000 ID samples.
A median is that of the runs without an earlier alarm; what has none is above the samples shown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks._measure import print_settings
from offmap.guard import Certified
from offmap.guard._betting import Bets, factors
from offmap.guard.decide import alarm_rank

ALPHA = DELTA = RATE = 0.05
LIMIT = -math.log(ALPHA)
CHUNK = 500
SHARES = (0.05, 0.1, 0.2)
QUIET = 10_000
STEPS = 3_000
NULLS = (2_000, 20_000)

Matrix = NDArray[np.float64]


@dataclass
class Streams:
    """So many streams at once, each against a calibration set of its own.

    Args:
        n: calibration samples.
        runs: streams.
        rng: of all draws.
    """

    n: int
    runs: int
    rng: np.random.Generator
    calibration: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self.calibration = np.sort(self.rng.random((self.runs, self.n)), axis=1)

    @property
    def k(self) -> int:
        """The rank of the threshold."""
        return alarm_rank(self.n, RATE)

    @property
    def q(self) -> float:
        """The certified rate."""
        return float(Certified("", "plain", RATE, (self.n,), (self.k,), 1, True).upper(DELTA)[0])

    def steps(self, count: int, share: float) -> Iterator[tuple[NDArray[np.bool_], Matrix]]:
        """Whether the samples of a step are called OOD, and their smoothed p-values, per stream."""
        for start in range(0, count, CHUNK):
            size = (self.runs, min(CHUNK, count - start))
            scores = self.rng.random(size)
            scores[self.rng.random(size) < share] = 2.0
            ranks = [np.searchsorted(c, s) for c, s in zip(self.calibration, scores, strict=True)]
            p = (self.n - np.array(ranks) + self.rng.random(size)) / (self.n + 1)
            alarms = scores > self.calibration[:, -self.k, None]
            yield from zip(*(np.ascontiguousarray(x.T) for x in (alarms, p)), strict=True)


class Watched:
    """The monitors' bets: log wealth after each step."""

    def __init__(self, streams: Streams) -> None:
        self._bets = Bets(streams.runs)
        self._none, self._one = factors(np.array(streams.q))

    def __call__(self, alarms: NDArray[np.bool_], p: Matrix) -> Matrix:
        self._bets.step(np.where(alarms, self._one[:, None], self._none[:, None]))
        return self._bets.log_wealth


class Plain:
    """The simple jumper, with its usual rate of jumps."""

    def __init__(self, streams: Streams) -> None:
        self._capital = np.full((3, streams.runs), 1 / 3)

    def __call__(self, alarms: NDArray[np.bool_], p: Matrix) -> Matrix:
        mixed = 0.99 * self._capital + 0.01 / 3 * self._capital.sum(0)
        self._capital = mixed * (1 + np.array([[-1.0], [0.0], [1.0]]) * (p - 0.5))
        return np.log(self._capital.sum(0))


def first_alarms(streams: Streams, quiet: int, steps: int, share: float) -> tuple[Matrix, Matrix]:
    """After how many samples each stream's monitor and martingale raise their first alarms.

    Args:
        streams: read so far or not.
        quiet: ID samples first.
        steps: samples behind these.
        share: of OOD among them.
    """
    systems: tuple[Callable[..., Matrix], ...] = (Watched(streams), Plain(streams))
    first = np.full((2, streams.runs), np.inf)
    t = 0
    for count, part in ((quiet, 0.0), (steps, share)):
        for alarms, p in streams.steps(count, part):
            t += 1
            for row, system in zip(first, systems, strict=True):
                row[(system(alarms, p) >= LIMIT) & np.isinf(row)] = t
            if t > quiet and all(_settled(row, quiet) for row in first):
                return first[0], first[1]
    return first[0], first[1]


def _settled(first: Matrix, quiet: int) -> bool:
    """Whether the median of those that raised no alarm before the change is known."""
    return bool(np.isfinite(first).sum() > (first <= quiet).sum() + (first > quiet).sum() / 2)


def shown(name: str, of: dict[str, str]) -> None:
    print(f"{name:<44}" + "".join(f"{key} {value:<20}" for key, value in of.items()))


def report(n: int, runs: int, rng: np.random.Generator) -> None:
    streams = Streams(n, runs, rng)
    print(f"\nn = {n:,}, k = {streams.k}, q = {streams.q:.4f}")
    firsts = first_alarms(streams, max(NULLS), 0, 0.0)
    for length in NULLS:
        rates = [f"{(first <= length).mean():.1%}" for first in firsts]
        shown(f"false alarm ever in {length:,} ID samples", dict(zip(NAMES, rates, strict=True)))
    for share in SHARES:
        delays = first_alarms(Streams(n, runs, rng), 0, STEPS, share)
        shown(f"median delay, {share:.0%} OOD from the start", medians(delays))
    quiet = first_alarms(Streams(n, runs, rng), QUIET, STEPS, 0.2)
    shown(f"median delay, 20% OOD behind {QUIET:,} ID", medians(tuple(d - QUIET for d in quiet)))


NAMES = ("monitor", "plain")


def extended(n: int, runs: int, rng: np.random.Generator, *, rounds: int, chosen: bool) -> str:
    """Mean true rates of alarms as a calibration set grows by ``n`` ID samples a round.

    The threshold is that of a certificate, at most 5 % with 95 % confidence; the samples are a
    random sample, or those that the guard itself accepted.
    """
    scores = rng.random((runs, n))
    rates = []
    for _ in range(rounds + 1):
        k = certified_rank(scores.shape[1])
        threshold = np.partition(scores, -k, axis=1)[:, -k, None]
        rates.append(f"{1 - threshold.mean():.1%}")
        new = rng.random((runs, n)) * (threshold if chosen else 1)
        scores = np.concatenate([scores, new], axis=1)
    return ", ".join(rates)


def certified_rank(n: int) -> int:
    """The highest rank whose rate is at most 5 % with 95 % confidence."""
    ranks = np.arange(1, n + 1)
    return int((beta.sf(RATE, ranks, n + 1 - ranks) <= DELTA).sum())


def medians(delays: tuple[Matrix, ...]) -> dict[str, str]:
    """Of those delays that begin with the change: what alarmed before it is left out."""
    honest = (delay[delay > 0] for delay in delays)
    middle = {name: np.median(d) for name, d in zip(NAMES, honest, strict=True)}
    return {name: f"{x:,.0f}" if np.isfinite(x) else f"> {STEPS:,}" for name, x in middle.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print_settings(runs=options.runs, seed=options.seed, alpha=ALPHA, delta=DELTA, rate=RATE)
    rng = np.random.default_rng(options.seed)
    for n in (200, 1_000):
        report(n, options.runs, rng)
    print("\ntrue rate of a 5 % certificate, n = 1,000, extended three times by 1,000")
    for name, chosen in (("by a random sample of ID", False), ("by what it accepted itself", True)):
        print(f"{name:<44}{extended(1_000, 500, rng, rounds=3, chosen=chosen)}")


if __name__ == "__main__":
    main()
