"""Whether more samples are called OOD than the guard's calibration set allows, at any time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from offmap._utils.arguments import whole
from offmap._utils.samples import as_tensor
from offmap.errors import ArgumentError, ShapeError
from offmap.guard import _state
from offmap.guard import _watch_words as words
from offmap.guard._evidence import Evidence, Time
from offmap.guard.certified import Certified
from offmap.guard.decide import exact_rate
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.cascade import Cascade
    from offmap.guard.guard import Guard

_GO_ON = "let the monitor go on with the guard at that rate first"


class Monitor(Evidence):
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
        read: how far logs were read, by a hash of their first line or row.
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
        certified = guard if isinstance(guard, Certified) else Certified.of(guard)
        super().__init__(certified, alpha, delta)
        self.read: dict[str, _state.Place] = {}

    def update(self, verdict: Verdict | Any, labels: Any = None, *, time: Time = None) -> bool:
        """Bet on the samples of a verdict, in their order; whether there is an alarm by now.

        Args:
            verdict: of the guard; or which samples were called OOD, as booleans.
            labels: predictions beside booleans; needed where the guard is calibrated per class.
            time: of the samples; by default now.

        Raises:
            ArgumentError: labels are missing, or there is no such class; or a verdict that was made
                at another threshold, for which see :meth:`go_on_with`, or by a guard with another
                number of calibration samples.
            ShapeError: not as many labels as booleans.
        """
        samples = list(_samples(verdict, labels))
        for label, is_ood, p_value in samples:  # before any of them counts
            self.certified.check_judged(is_ood, label, p_value, way_out=_GO_ON)
        for label, is_ood, p_value in samples:
            self._bet(1, int(is_ood), label, p_value, time)
        return self.alarmed

    def see(
        self,
        is_ood: bool,
        label: int | None = None,
        p_value: float | None = None,
        *,
        time: Time = None,
    ) -> bool:
        """Bet on one sample; whether there is an alarm by now.

        Args:
            is_ood: whether the guard called it OOD.
            label: its prediction.
            p_value: its p-value, for the histogram.
            time: of it; by default now.

        Raises:
            ArgumentError: ``is_ood`` is neither true nor false, ``p_value`` is none, or there is no
                such class.
        """
        if is_ood not in (True, False):  # a score or p-value must not pass for no alarm
            raise ArgumentError(f"is_ood must be true or false; seen {is_ood!r}")
        if p_value is not None and not 0 <= p_value <= 1:
            raise ArgumentError(f"p_value must lie in [0, 1]; seen {p_value!r}")
        self._bet(1, int(is_ood), label, p_value, time)
        return self.alarmed

    def count(
        self,
        alarms: int,
        samples: int,
        label: int | None = None,
        *,
        time: Time = None,
    ) -> bool:
        """Bet on counts of samples; whether there is an alarm by now.

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
            self._bet(samples, alarms, label, None, time)
        return self.alarmed

    def reset(self, alpha: float | None = None) -> Self:
        """Start again after an alarm, without the samples before.

        The probability of a false alarm in all grows by the new ``alpha``; ``delta`` is not spent
        again, as the calibration set is the same.

        Args:
            alpha: the new one; by default as before.
        """
        exact_rate(alpha := self.alpha if alpha is None else alpha, "alpha")
        self.alphas = (*self.alphas, float(alpha))
        self._restart()
        return self

    def go_on_with(self, guard: Guard | Cascade | Certified) -> Self:
        """Continue with the same guard at another threshold, at its own certified rate.

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
        self._set_odds()
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
        """Continue from what :meth:`save` wrote, equal to the bit.

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
    is_ood = as_tensor(verdict)
    if is_ood.dtype != torch.bool or is_ood.ndim > 1:
        raise ShapeError(
            f"alarms must be booleans (n,), or a Verdict; seen {is_ood.dtype} of shape "
            f"{tuple(is_ood.shape)}"
        )
    alarms = is_ood.reshape(-1).tolist()
    classes = [None] * len(alarms) if labels is None else as_tensor(labels).reshape(-1).tolist()
    if len(classes) != len(alarms):
        raise ShapeError(f"{len(classes)} labels beside {len(alarms)} alarms: give one for each")
    return ((label, alarm, None) for label, alarm in zip(classes, alarms, strict=True))
