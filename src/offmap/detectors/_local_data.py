"""Data in this process: batches that can be read once, or any number of times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from offmap.activations import Activations, Batch, Sample, Shards
from offmap.detectors._needs import Needs
from offmap.detectors._spread import Collected, Spread, Task
from offmap.errors import DataError

if TYPE_CHECKING:
    from offmap.detectors._engine import Fitting

# Pairs of activations, or samples, and labels; or a function that opens them any number of times.
Data = Iterable[tuple[Any, Any]] | Callable[[], Iterable[tuple[Any, Any]]]


class LocalData(Spread):
    """Data in this process: one part, spooled where it can be read once only."""

    def __init__(self, data: Data, stack: ExitStack) -> None:
        self.first, self._data = _peek(data)
        self._device = _acts(self.first).device
        self._stack = stack
        self._spool: Shards | None = None

    @property
    def needs_inputs_again(self) -> bool:
        """Whether there are inputs that cannot be read a second time."""
        return isinstance(self.first, Sample) and not _readable(self._data)

    def collect(self, task: Task, fitting: Fitting) -> Iterator[Collected]:
        batches: Any = self._data() if callable(self._data) else self._data
        if task.keep is not None and not _readable(self._data):
            if self._spool is None:
                self._spool = self._stack.enter_context(Shards.temporary())
            batches = through_spool(self._spool, batches, task.keep, first_pass=task.number == 0)
        yield fitting.collected(task, on_device(self._device, batches))


def on_device(device: torch.device, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches on one device: those read back from shards are on the CPU."""
    for acts, labels in batches:
        if len(acts):
            batch = acts if isinstance(acts, Sample) else acts.to(device)
            yield batch, None if labels is None else labels.to(device)


def through_spool(
    spool: Shards, batches: Iterable[Batch], keep: tuple[Needs, bool], *, first_pass: bool
) -> Iterator[Batch]:
    """The batches; the first pass also spools what later passes read, which then read the spool."""
    if not first_pass:
        yield from spool
        return
    needs, layers = keep
    with spool.writing() as write:
        for acts, labels in batches:
            if len(acts):
                write(part_of(_acts(acts), needs, layers=layers), labels)
            yield acts, labels


def part_of(acts: Activations, needs: Needs, *, layers: bool) -> Activations:
    """The activations reduced to the parts that are read."""
    if acts.members:
        members = tuple(part_of(member, needs, layers=layers) for member in acts.members)
        return Activations(members=members, keys=acts.keys)
    return Activations(
        acts.logits if Needs.LOGITS in needs and acts.has_logits else None,
        acts.features if Needs.FEATURES in needs and acts.has_features else None,
        acts.layers if layers else None,
        keys=acts.keys,
    )


def _peek(data: Data) -> tuple[Activations | Sample, Data]:
    """The first batch that holds samples, and the data from their start."""
    if _readable(data):
        opened = iter(data() if callable(data) else data)
        first = next((acts for acts, _ in opened if len(acts)), None)
    else:
        iterator, empty = iter(data), []  # type: ignore[arg-type]
        batch = None
        for batch in iterator:
            if len(batch[0]):
                break
            empty.append(batch)
            batch = None
        first = None if batch is None else batch[0]
        data = chain([] if batch is None else [batch], iterator)
    if first is None:
        raise DataError("there is nothing to fit on: the data is empty, or every batch is empty")
    return first, data


def _readable(data: Data) -> bool:
    """Whether it can be read more than once."""
    return callable(data) or isinstance(data, Sequence)


def _acts(x: Activations | Sample) -> Activations:
    return x.acts if isinstance(x, Sample) else x
