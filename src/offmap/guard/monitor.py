"""Whether more samples are called OOD than the guard's calibration set allows, at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float64

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError, ShapeError
from offmap.guard import _state
from offmap.guard import _watch_words as words
from offmap.guard._betting import Bets, Runs
from offmap.guard._odds import SHARES, odds
from offmap.guard._state import Alarm
from offmap.guard.certified import Certified
from offmap.guard.decide import exact_rate
from offmap.guard.tally import Path as WealthPath
from offmap.guard.tally import Tally
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.cascade import Cascade
    from offmap.guard.guard import Guard

_FOR_CHANGE = slice(None, None, len(SHARES))  # the first row, and the last, of too few alarms
_GO_ON = "let the monitor go on with the guard at that rate first"
Time = datetime | str | None


class Monitor:
    r"""Watches a guard's verdicts, and says when more are OOD than its calibration set allows.

    It bets that each is called OOD at no more than the certified rate ``q``, with
    ``P(Beta(k, n + 1 - k) > q) <= delta`` for ``n`` calibration samples and the threshold at the
    ``k``-th largest score. If ID samples like the calibration ones are all that comes, the
    probability that it *ever* raises an alarm is at most ``alpha + delta``, at every length of the
    stream. Needs no labels and keeps nothing of the samples but counts.

    Args:
        guard: calibrated; a cascade, whose filter is watched; or a :class:`Certified`.
        alpha: probability of an alarm where the certified rate holds.
        delta: probability that the calibration set certifies a rate that does not hold.

    Attributes:
        certified: what the guard's calibration set certifies.
        tally: counts of samples, alarms and p-values, in all and by predicted class.
        path: log wealth over the samples, thinned.
        log_wealths: logarithms of the wealths against each of ``SHARES``, and of the mirror's.
        alarm: the first one, or none.
        conforming: when *fewer* were called OOD than can be, or none; told only where the
            calibration scores are distinct. It has an ``alpha`` and a ``delta`` of its own.
        alphas: those spent so far, one a reset more.
        read: how far logs were read, in bytes or rows, by a hash of their first.
        thresholds: those watched so far; each has spent a ``delta``.

    Raises:
        NotFittedError: the guard is not calibrated.
        ArgumentError: ``alpha`` or ``delta`` is not in (0, 1).

    References:
        Ville 1939; Vovk and Wang, Annals of Statistics 49, 2021 (test martingales and e-values);
        Shin, Ramdas and Rinaldo, arXiv:2203.03532 (sums of e-processes that start anew).
    """

    def __init__(
        self, guard: Guard | Cascade | Certified, alpha: float = 0.05, delta: float = 0.05
    ) -> None:
        exact_rate(alpha, "alpha")
        exact_rate(delta, "delta")
        self.certified = guard if isinstance(guard, Certified) else Certified.of(guard)
        self.alphas: tuple[float, ...] = (float(alpha),)
        self.delta = float(delta)
        self.thresholds: tuple[str, ...] = (self.certified.threshold,)
        self.read: dict[str, int] = {}
        self._prepare()
        self._begin()

    def _prepare(self) -> None:
        self._factors = odds(self.certified, self.delta)
        self._logs = np.log(self._factors)

    def _begin(self) -> None:
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
        """The certified rate of each group, that of the one or those of the classes."""
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
        """How probable an alarm is at most, in all, if only ID samples come."""
        return min(1.0, sum(self.alphas) + self.delta * len(self.thresholds))

    def update(self, verdict: Verdict | Any, labels: Any = None, *, time: Time = None) -> bool:
        """Go on by the samples of a verdict, in their order; whether there is an alarm by now.

        Args:
            verdict: of the guard; or which samples were called OOD, as booleans.
            labels: predictions beside booleans; needed where the guard is calibrated per class.
            time: of the samples; by default now.

        Raises:
            ArgumentError: labels are missing, or there is no such class; or a verdict that was made
                at another threshold, for which see :meth:`go_on_with`.
            ShapeError: not as many labels as booleans.
        """
        samples = list(_samples(verdict, labels))
        for label, is_ood, p_value in samples:  # before any of them counts
            self.certified.check_judged(is_ood, label, p_value, way_out=_GO_ON)
        for label, is_ood, p_value in samples:
            self._go_on(1, int(is_ood), label, p_value, time)
        return self.alarmed

    def see(
        self,
        is_ood: bool,
        label: int | None = None,
        p_value: float | None = None,
        *,
        time: Time = None,
    ) -> bool:
        """Go on by one sample; whether there is an alarm by now.

        Args:
            is_ood: whether the guard called it OOD.
            label: its prediction.
            p_value: its p-value, for the histogram.
            time: of it; by default now.

        Raises:
            ArgumentError: ``is_ood`` is neither true nor false; or there is no such class.
        """
        if is_ood not in (True, False):  # a score or p-value must not pass for no alarm
            raise ArgumentError(f"is_ood must be true or false; seen {is_ood!r}")
        self._go_on(1, int(is_ood), label, p_value, time)
        return self.alarmed

    def count(
        self,
        alarms: int,
        samples: int,
        label: int | None = None,
        *,
        time: Time = None,
    ) -> bool:
        """Go on by counters; whether there is an alarm by now.

        All samples are bet on at once, so the size of a batch must not depend on what is in it.

        Args:
            alarms: samples called OOD.
            samples: in all.
            label: the prediction of all of them; needed where the guard is calibrated per class.
            time: of the samples; by default now.
        """
        samples = whole("samples", samples, 0)
        alarms = whole("alarms", alarms, 0, samples)
        if samples:
            self._go_on(samples, alarms, label, None, time)
        return self.alarmed

    def _go_on(
        self,
        samples: int,
        alarms: int,
        label: int | None,
        p_value: float | None,
        time: Time,
    ) -> None:
        label = None if label is None else int(label)  # of NumPy it could not be written
        group = self.certified.group(label)
        none, one = self._logs[group]
        if samples == 1:
            logs = one if alarms else none
            self.bets.step(self._factors[group, alarms])
        else:
            logs = alarms * one + (samples - alarms) * none
            self.bets.step_batch(logs, samples)
        self.runs.step(logs[:, _FOR_CHANGE], self.tally.samples, self.tally.alarms)
        self.tally.add(samples, alarms, label, p_value)
        self.log_wealths = self.bets.log_wealth
        self.path.add(self.tally.samples, self.log_wealth)
        self._look(time)

    def _look(self, time: Time) -> None:
        """Note what the wealths show."""
        rich = self.log_wealths >= -math.log(self.alpha)
        if rich[-1] and not self.conforming:
            self.conforming = self._alarm(1, time)
        if not rich[0]:
            return
        # Wealth falls with the share, sample by sample, so all below the highest are rich too.
        self.shown = max(self.shown, int(rich[:-1].nonzero()[0][-1]))
        if not self.alarm:
            self.alarm = self._alarm(0, time)

    def _alarm(self, row: int, time: Time) -> Alarm:
        samples, alarms = self.runs.start(row)
        time = datetime.now(UTC) if time is None else time
        text = time if isinstance(time, str) else time.isoformat(timespec="milliseconds")
        return Alarm(self.tally.samples, text, samples + 1, alarms)

    def reset(self, alpha: float | None = None) -> Self:
        """Begin anew behind an alarm, with nothing seen.

        The probability of a false alarm in all grows by the new ``alpha``; ``delta`` is not spent
        again, as the calibration set is the same.

        Args:
            alpha: the new one; by default as before.
        """
        exact_rate(alpha := self.alpha if alpha is None else alpha, "alpha")
        self.alphas = (*self.alphas, float(alpha))
        self._begin()
        return self

    def go_on_with(self, guard: Guard | Cascade | Certified) -> Self:
        """Go on with the same guard at another threshold, at its own certified rate.

        A threshold that was not watched before spends ``delta`` once more.

        Raises:
            ArgumentError: it is another guard, or was calibrated anew.
        """
        certified = guard if isinstance(guard, Certified) else Certified.of(guard)
        if certified.guard != self.certified.guard:
            raise ArgumentError(
                f"this monitor watches the guard {self.certified.guard}, and this is "
                f"{certified.guard}, which has another network, detector or calibration set: begin "
                "a new monitor, with an alpha and a delta of its own"
            )
        self.certified = certified
        self._prepare()
        if certified.threshold not in self.thresholds:
            self.thresholds = (*self.thresholds, certified.threshold)
        return self

    def save(self, path: str | Path) -> None:
        """Write the state into a .json file of some KB, in one step.

        Raises:
            ArgumentError: the file is not called .json.
        """
        _state.write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, guard: Guard | Cascade | Certified | None = None) -> Monitor:
        """Go on where :meth:`save` left it, with equal bits.

        Args:
            path: of the state.
            guard: what is watched, at the same threshold or another; by default not checked.

        Raises:
            StoreError: the state cannot be read.
            ArgumentError: it is that of another guard.
        """
        state = _state.read(Path(path))
        monitor = cls(state.certified, state.alphas[-1], state.delta)
        _state.restore(monitor, state)
        monitor.log_wealths = monitor.bets.log_wealth
        return monitor if guard is None else monitor.go_on_with(guard)

    def __repr__(self) -> str:
        state = "alarm" if self.alarmed else "no alarm"
        return f"Monitor({self.certified.guard}; {self.samples:,} samples, {state})"

    def __str__(self) -> str:
        return words.line(self)

    def explain(self) -> str:
        """What was seen, what it shows, and what that promises, in words."""
        return words.explained(self)


def _samples(verdict: Any, labels: Any) -> Iterator[tuple[int | None, bool, float | None]]:
    """Label, decision and p-value of each sample."""
    if isinstance(verdict, Verdict):
        columns = verdict.labels.tolist(), verdict.is_ood.tolist(), verdict.p_values.tolist()
        return zip(*columns, strict=True)
    is_ood = torch.as_tensor(verdict)
    if is_ood.dtype != torch.bool or is_ood.ndim > 1:
        raise ShapeError(
            f"alarms must be booleans (n,), or a Verdict; seen {is_ood.dtype} of shape "
            f"{tuple(is_ood.shape)}"
        )
    alarms = is_ood.reshape(-1).tolist()
    known = [None] * len(alarms) if labels is None else torch.as_tensor(labels).reshape(-1).tolist()
    if len(known) != len(alarms):
        raise ShapeError(f"{len(known)} labels beside {len(alarms)} alarms: give one for each")
    return ((label, alarm, None) for label, alarm in zip(known, alarms, strict=True))
