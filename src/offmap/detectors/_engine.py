"""Fitting: a fold over the batches for each stage, for any number of detectors at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Batch, Head, Heads, Shards
from offmap.detectors._checks import check_labels, check_needs
from offmap.errors import ArgumentError, DataError, OffmapError

Seconds = list[float]


class Fittable(Protocol):
    """What fitting asks of a detector."""

    needs: frozenset[str]
    stages: int

    def prepare(self, first: Activations, head: Head | Heads | None) -> None: ...
    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Any: ...
    def solve(self, stage: int, stats: Any) -> None: ...


@torch.no_grad()
def fit(
    detectors: Sequence[Fittable],
    batches: Iterable[Batch],
    *,
    head: Head | Heads | Callable[[], Head | Heads | None] | None = None,
    failures: dict[int, OffmapError] | None = None,
) -> Seconds:
    """Fit detectors together: the first stages of all share one pass, the second ones the next.

    ``batches`` is walked once. Later stages read it again if it is a sequence, and otherwise from
    shards spooled to a temporary folder, so a one-shot iterable of any length will do.

    Args:
        detectors: what they had learned before is forgotten.
        batches: pairs of activations and labels.
        head: the last linear layer, of an ensemble the tuple of its members' ones, or a function
            that gives it once the first batch has come.
        failures: takes the error of each detector that cannot be bound or solved, by position,
            and the others go on; without it the first such error is raised.

    Returns:
        Seconds spent on each detector.

    Raises:
        DataError: the data is empty, not finite, or its labels are not the network's classes.
        NeedsError: a detector needs features or a head, and there are none.
    """
    if len({id(each) for each in detectors}) < len(detectors):
        raise ArgumentError("one detector is given twice: fit it once, or give copies of it")
    first, batches = _peek(batches)
    device = first.logits.device
    head = head() if callable(head) and not isinstance(head, Head) else head
    live = dict(enumerate(detectors))
    seconds = [0.0] * len(detectors)
    for i, detector in enumerate(detectors):
        with _sparing(i, live, failures):
            detector.prepare(first, head)
    stages = max((d.stages for d in live.values()), default=0)
    again = stages > 1 and not isinstance(batches, Sequence)
    with Shards.temporary() if again else nullcontext() as spool:
        for stage in range(stages):
            source = batches if spool is None else spool.through(lambda _: batches)
            _run_stage(stage, live, _on(device, source), seconds, failures)
    return seconds


def _on(device: torch.device, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches on one device: those read back from shards come from the processor's memory."""
    for acts, labels in batches:
        if len(acts):
            yield acts.to(device), None if labels is None else labels.to(device)


def _run_stage(
    stage: int,
    live: dict[int, Fittable],
    batches: Iterable[Batch],
    seconds: Seconds,
    failures: dict[int, OffmapError] | None,
) -> None:
    active = {i: detector for i, detector in live.items() if stage < detector.stages}
    sums: dict[int, Any] = {}
    seen = 0
    for acts, labels in batches:
        acts.check_finite(start=seen)
        seen += len(acts)
        for i, detector in active.items():
            start = time.perf_counter()
            part = _collect(detector, stage, acts, labels)
            sums[i] = sums[i] + part if i in sums else part
            seconds[i] += time.perf_counter() - start
    if active and not seen:
        raise DataError("there are no samples to fit on: every batch is empty")
    for i, detector in active.items():
        start = time.perf_counter()
        with _sparing(i, live, failures):
            detector.solve(stage, sums.pop(i))
        seconds[i] += time.perf_counter() - start


@contextmanager
def _sparing(
    i: int, live: dict[int, Fittable], failures: dict[int, OffmapError] | None
) -> Iterator[None]:
    """Take a detector that fails out of the running, if the caller wants the others to go on."""
    try:
        yield
    except OffmapError as error:
        if failures is None:
            raise
        failures[i] = error
        del live[i]


def _collect(detector: Fittable, stage: int, acts: Activations, labels: Tensor | None) -> Any:
    check_needs(detector.needs, acts, detector)
    if "labels" in detector.needs:
        check_labels(labels, acts, detector)
        labels = None if labels is None else labels.long()
    with without_autocast(acts.logits.device):
        return detector.collect(stage, acts, labels)


def _peek(batches: Iterable[Batch]) -> tuple[Activations, Iterable[Batch]]:
    """The first activations, and batches that still begin with them."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise DataError("there are no batches to fit on: the data is empty")
    return first[0], batches if isinstance(batches, Sequence) else chain([first], iterator)
