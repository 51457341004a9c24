"""Fitting: a fold over the batches for each pass, for any number of detectors at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import torch

from offmap.activations import Activations, Batch, Head, Sample
from offmap.detectors._binding import AnyHead, prepare, present, sparing_part
from offmap.detectors._local_data import Data, LocalData, on_device
from offmap.detectors._needs import NOTHING, SOURCES, Needs, Source
from offmap.detectors._plan import at, passes, plan, reads, taps_of
from offmap.detectors._spread import Collected, Spread, Task, left_out_of
from offmap.detectors._steps import activations_of, collect, count_pass, solve
from offmap.errors import ArgumentError, DataError, NeedsError, OffmapError

if TYPE_CHECKING:
    from offmap.detectors._detector import Detector
    from offmap.detectors._tolerant import Tolerant

Seconds = list[float]


@torch.no_grad()
def fit(
    detectors: Sequence[Detector],
    *,
    train: Data | None = None,
    calibration: Data | None = None,
    head: AnyHead | Callable[[], AnyHead] = None,
    failures: dict[int, OffmapError] | None = None,
) -> Seconds:
    """Fit detectors together: the first passes of all share one, the second ones the next.

    Each data set is walked once. Later passes read it again if it is a sequence or a function that
    opens it, and otherwise from shards of a temporary folder, which hold what later passes read;
    so a one-shot iterable of any length will do.

    Args:
        detectors: fitted anew, whatever they had learned before.
        train: pairs of activations and labels of the network's training data, or a function that
            opens them.
        calibration: the same of held-out ID data.
        head: the last linear layer, of an ensemble the tuple of its members' ones, or a function
            that gives it once the first batch has come.
        failures: takes the error of each detector that cannot be fitted, by position, and the
            others go on; without it the first such error is raised.

    Returns:
        Seconds spent on each detector.

    Raises:
        DataError: the data is empty, not finite, or its labels are not the network's classes.
        NeedsError: a detector needs features, a head or one of the two data, and there are none.
    """
    fitting = Fitting(detectors, head, failures)
    fitting.begin()
    for source, data in zip(SOURCES, (train, calibration), strict=True):
        fitting.learn(source, data)
    return fitting.seconds


class Fitting:
    """Detectors that are being fitted, source by source.

    Args:
        detectors: each given once.
        head: as for :func:`offmap.fit`.
        failures: likewise.

    Attributes:
        seconds: spent on each detector.
        unbound: positions of detectors that still wait for a head, or for the number of members.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        head: AnyHead | Callable[[], AnyHead] = None,
        failures: dict[int, OffmapError] | None = None,
    ) -> None:
        if len({id(detector) for detector in detectors}) < len(detectors):
            raise ArgumentError("one detector is given twice: fit it once, or give copies of it")
        self.roots = dict(enumerate(detectors))
        self.head = head
        self.failures = failures
        self.seconds: Seconds = [0.0] * len(detectors)
        self.unbound: set[int] = set()

    def begin(self) -> None:
        """Reset all detectors, and bind those that learn from no data."""
        for i, root in list(self.roots.items()):
            root.reset()
            if root.learns:
                self.unbound.add(i)
        if not (callable(self.head) and not isinstance(self.head, Head)):
            self.bind(None, [i for i in self.unbound if not plan(self.roots[i])])

    def bind(self, first: Activations | Sample | None, chosen: Iterable[int] | None = None) -> None:
        """Copy detectors for the members of an ensemble, and give each node its head.

        Args:
            first: activations of the first batch; ``None`` for those that learn from no data.
            chosen: positions of the detectors; by default all that are not bound yet.
        """
        first = None if first is None else activations_of(first)
        for i in list(self.unbound if chosen is None else chosen):
            with self._sparing(i):
                prepare(self.roots[i], self._head(), first)
            self.unbound.discard(i)

    def _head(self) -> AnyHead:
        if callable(self.head) and not isinstance(self.head, Head):
            self.head = self.head()
        return self.head

    @torch.no_grad()
    def learn(self, source: Source, data: Data | Spread | None) -> None:
        """All passes over one source of data.

        Raises:
            NeedsError: there is no such data, and a detector learns on it.
        """
        counts = {i: passes(root, source) for i, root in self.roots.items()}
        active = [i for i, count in counts.items() if count]
        if not active:
            return
        if data is None:
            for i in active:
                with self._sparing(i):
                    raise NeedsError(
                        f"{self.roots[i]!r} needs {_WORDS[source]} to learn on: give {source}="
                    )
            return
        # Those that learn from calibration data alone had no earlier source to be bound by.
        unbound = (i for i, r in self.roots.items() if r.learns and "passes_" not in r._buffers)
        self.unbound.update(unbound)
        with ExitStack() as stack:
            spread = data if isinstance(data, Spread) else LocalData(data, stack)
            self.bind(spread.first)
            plans = {i: [s for s in plan(r) if s.source == source] for i, r in self.roots.items()}
            count = max((1 + s.number for steps in plans.values() for s in steps), default=0)
            keep = self._spooled(source) if count > 1 else None
            if isinstance(spread, LocalData) and count > 1 and spread.needs_inputs_again:
                self._check_samples(source)
            for number in range(count):
                by_root = {
                    i: [s for s in steps if s.number == number] for i, steps in plans.items()
                }
                by_root = {i: steps for i, steps in by_root.items() if steps and i in self.roots}
                if by_root:
                    roots = {i: self.roots[i] for i in by_root}
                    self._pass(Task(source, number, roots, by_root, keep), spread)

    def _spooled(self, source: Source) -> tuple[Needs, bool]:
        """The needs of passes after the first, and whether they read other layers."""
        needs, layers = NOTHING, False
        for root in self.roots.values():
            for step in plan(root):
                if step.source == source and step.number:
                    needs |= reads(root, step)
                    # The layers of a part are tapped by itself or by a composite around it.
                    above = (at(root, step.path[:k]).taps() for k in range(len(step.path)))
                    layers = layers or any(above) or bool(taps_of(at(root, step.path)))
        return needs, layers

    def _check_samples(self, source: Source) -> None:
        """Refuse later passes of what needs inputs over data that can be read once only."""
        for i, root in list(self.roots.items()):
            if any(
                Needs.INPUTS in at(root, step.path[:k]).needs_to_learn
                for step in plan(root)
                if step.source == source and step.number
                for k in range(len(step.path) + 1)
            ):
                with self._sparing(i):
                    raise NeedsError(
                        f"{root!r} runs the network again in a second pass over the "
                        f"{_WORDS[source]}, which can be read once only: give a loader or a set"
                    )

    def _pass(self, task: Task, spread: Spread) -> None:
        """Collect over all parts of the data, in their order, and solve once."""
        total = Collected()
        for part in spread.collect(task, self):
            for (i, path), reason in part.left_out.items():
                if i in self.roots and present(self.roots[i], path):
                    with self._sparing(i):
                        parent = cast("Tolerant", at(self.roots[i], path[:-1]))
                        parent.leave_out(path[-1], reason)
            total.add(part)
        if not total.samples:
            raise DataError(
                "there is nothing to fit on: the data is empty, or every batch is empty"
            )
        for i, steps in task.steps.items():
            start = time.perf_counter()
            if i in self.roots:
                with self._sparing(i):
                    for step in steps:
                        with sparing_part(self.roots[i], step.path):
                            if present(self.roots[i], step.path):
                                solve(self.roots[i], step, total.sums.pop((i, step)), self._head())
                    count_pass(self.roots[i], task.source, task.number + 1)
            self.seconds[i] += time.perf_counter() - start

    @torch.no_grad()
    def collected(self, task: Task, batches: Iterable[Batch]) -> Collected:
        """Collect the statistics of these batches in a pass of this fit."""
        total = Collected()
        for acts, labels in batches:
            if task.number == 0:  # spooled batches were checked in the first pass
                activations_of(acts).check_finite(start=total.samples)
            total.samples += len(acts)
            for i, steps in task.steps.items():
                start = time.perf_counter()
                if i in self.roots:
                    with self._sparing(i, only=(NeedsError,)):
                        collect(self.roots[i], steps, acts, labels, i, total.sums)
                self.seconds[i] += time.perf_counter() - start
        return total

    @contextmanager
    def _sparing(
        self, i: int, only: tuple[type[OffmapError], ...] = (OffmapError,)
    ) -> Iterator[None]:
        """Drop a detector that fails and record its error, if the caller takes failures."""
        try:
            yield
        except only as error:
            if self.failures is None:
                raise
            self.failures[i] = error
            self.unbound.discard(i)
            del self.roots[i]


_WORDS: dict[Source, str] = {"train": "training data", "calibration": "calibration data"}


def collected_apart(task: Task, batches: Iterable[Batch]) -> Collected:
    """Collect the statistics of a part of the data in a pass, in a process of its own.

    The detectors of the task are changed: parts that cannot be used are left out.
    """
    absences = {i: left_out_of(root) for i, root in task.roots.items()}
    fitting = Fitting(list(task.roots.values()))
    fitting.roots = dict(task.roots)
    fitting.seconds = [0.0] * (1 + max(task.roots))
    device = next((x.device for root in task.roots.values() for x in root.buffers()), None)
    total = fitting.collected(task, batches if device is None else on_device(device, batches))
    for i, root in task.roots.items():
        additions = {
            path: reason for path, reason in left_out_of(root).items() if path not in absences[i]
        }
        total.left_out |= {(i, path): reason for path, reason in additions.items()}
    return total
