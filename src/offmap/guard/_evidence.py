"""What the samples seen so far show of a guard's rate of alarms, by bets on it."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float64

from offmap.guard._betting import Bets, Runs, factors
from offmap.guard._state import Alarm
from offmap.guard.certified import Certified
from offmap.guard.decide import exact_rate
from offmap.guard.tally import Path as WealthPath
from offmap.guard.tally import Tally

# Shares of OOD that are bet against; the first is the bet on the guard's own rate.
SHARES = np.array(
    [0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
)
_FOR_CHANGE = slice(None, None, len(SHARES))  # the first row, and the last, of too few alarms
Time = datetime | str | None


class Evidence:
    """Bets on a certified rate, and what they have shown; :class:`offmap.Monitor` feeds it.

    The arguments are those of :class:`offmap.Monitor`.
    """

    def __init__(self, certified: Certified, alpha: float, delta: float) -> None:
        exact_rate(alpha, "alpha")
        exact_rate(delta, "delta")
        self.certified = certified
        self.alphas: tuple[float, ...] = (float(alpha),)
        self.delta = float(delta)
        self.thresholds: tuple[str, ...] = (self.certified.threshold,)
        self._set_odds()
        self._restart()

    def _set_odds(self) -> None:
        """The factors of the stakes for a sample of each group, without an alarm and with one.

        A row for each of ``SHARES``, and one for the bet that there are too few alarms.
        """
        upper, lower = self.rates, self.certified.lower(self.delta)
        # OOD samples choose their class, so a share of all of them is bet on at the highest rate.
        rates = SHARES[:, None] + (1 - SHARES[:, None]) * upper.max()
        rates = np.where(SHARES[:, None] > 0, rates, upper)
        above = factors(rates)
        below = np.ones_like(above[:, :, :1])
        if lower is not None:  # bets that there is no alarm, at one minus the rate
            below = factors(1 - lower)[::-1, :, None]
        self._factors = np.moveaxis(np.concatenate([above, below], axis=2), 3, 0)
        self._logs = np.log(self._factors)

    def _restart(self) -> None:
        self.tally, self.path = Tally(), WealthPath()
        self.alarm: Alarm | None = None
        self.conforming: Alarm | None = None
        self.bets, self.runs = Bets(len(SHARES) + 1), Runs(2)
        self.shown = -1  # the highest of SHARES that was ever shown
        self.log_wealths = np.zeros(len(SHARES) + 1)

    @property
    def alpha(self) -> float:
        """Probability of an alarm since the last reset, where the certified rate holds."""
        return self.alphas[-1]

    @property
    def rates(self) -> Float64[np.ndarray, " g"]:
        """The certified rate of each group (of all, or of each class)."""
        return self.certified.upper(self.delta)

    @property
    def alarmed(self) -> bool:
        """Whether it has raised an alarm."""
        return self.alarm is not None

    @property
    def too_conforming(self) -> bool:
        """Whether fewer samples were called OOD than ID samples would be."""
        return self.conforming is not None

    @property
    def log_wealth(self) -> float:
        """The logarithm of the wealth now; an alarm is raised at ``log(1 / alpha)``."""
        return float(self.log_wealths[0])

    @property
    def samples(self) -> int:
        """Samples since the start or the last reset."""
        return self.tally.samples

    @property
    def ood_share(self) -> float:
        """A share that the stream's share of OOD samples has exceeded at some time.

        A lower limit, valid at all times together with the alarm: at most ``alpha + delta`` is the
        probability that it is ever wrong. One of a grid of shares; 0 where nothing is shown.
        """
        return float(SHARES[max(self.shown, 0)])

    @property
    def ood_share_if_all_caught(self) -> float:
        """The share of OOD samples if all of them were called OOD, since the estimated change.

        Before an alarm, of all samples. An estimate that nothing bounds.
        """
        change, before = (self.alarm.change, self.alarm.alarms_before) if self.alarm else (1, 0)
        samples = self.tally.samples - change + 1
        expected = self.expected_rate
        rate = (self.tally.alarms - before) / samples if samples else 0.0
        return max(0.0, (rate - expected) / (1 - expected))

    @property
    def expected_rate(self) -> float:
        """The rate of alarms that ID samples have, on average over calibration sets."""
        expected = self.certified.expected
        if len(expected) == 1:
            return float(expected[0])
        counts = np.zeros(len(expected))
        for label, (samples, _) in self.tally.by_class.items():
            counts[self.certified.group(label)] += samples
        return float(np.average(expected, weights=counts if counts.any() else None))

    @property
    def false_alarm_bound(self) -> float:
        """An upper limit of the probability of any alarm if only ID samples come."""
        return min(1.0, sum(self.alphas) + self.delta * len(self.thresholds))

    def _bet(
        self,
        samples: int,
        alarms: int,
        label: int | None,
        p_value: float | None,
        time: Time,
    ) -> None:
        label = None if label is None else int(label)  # an integer of NumPy cannot be saved
        group = self.certified.group(label)
        quiet, alarm = self._logs[group]
        if samples == 1:
            logs = alarm if alarms else quiet
            self.bets.step(self._factors[group, alarms])
        else:
            logs = alarms * alarm + (samples - alarms) * quiet
            self.bets.step_batch(logs, samples)
        self.runs.step(logs[:, _FOR_CHANGE], self.tally.samples, self.tally.alarms)
        self.tally.add(samples, alarms, label, p_value)
        self.log_wealths = self.bets.log_wealth
        self.path.add(self.tally.samples, self.log_wealth)
        self._raise_alarms(time)

    def _raise_alarms(self, time: Time) -> None:
        """Note the wealths that have reached 1 / alpha."""
        crossings = self.log_wealths >= -math.log(self.alpha)
        if crossings[-1] and not self.conforming:
            self.conforming = self._alarm(1, time)
        if not crossings[0]:
            return
        # Wealth falls with the share, sample by sample: below the highest, all have crossed.
        self.shown = max(self.shown, int(crossings[:-1].nonzero()[0][-1]))
        if not self.alarm:
            self.alarm = self._alarm(0, time)

    def _alarm(self, row: int, time: Time) -> Alarm:
        samples, alarms = self.runs.start(row)
        time = datetime.now(UTC) if time is None else time
        # Tables of other programs may have numbers here.
        text = time.isoformat(timespec="milliseconds") if isinstance(time, datetime) else str(time)
        return Alarm(self.tally.samples, text, samples + 1, alarms)
