"""Calibration data in two parts: one to learn on, and the rest for the threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from offmap.activations import Activations, Sample, Shards
from offmap.detectors import to_learn_on
from offmap.errors import DataError
from offmap.guard.groups import Groups, keys_of


class CalibrationData:
    """Batches that the network sees once, and that are read for two purposes.

    A hash of its key says whether a sample is learned on, so batches do not matter. No sample is
    used for both: a threshold from samples that were learned on would promise nothing.

    Args:
        data: the calibration data; an iterator can be read only once.
        batches: opens the pass of the network over the data.
        samples: whether the pass yields samples with their inputs: these are not kept on disk, so
            the network runs once for each purpose.
        learn_share: share of the samples to learn on.
        groups: of the samples; all samples of a group go to one part.
        stack: closes what is opened here.

    Raises:
        DataError: an iterator whose samples are needed twice.
    """

    def __init__(
        self,
        data: Any,
        batches: Callable[[], Iterator[Any]],
        *,
        samples: bool,
        learn_share: float,
        stack: ExitStack,
        groups: Groups | None = None,
    ) -> None:
        if samples and isinstance(data, Iterator):
            raise DataError(
                "the calibration data is read twice, to learn on and for the threshold, and this "
                f"{type(data).__name__} can be read once only: give a loader or a set"
            )
        self.learn_share, self._groups = learn_share, groups
        self._open: Callable[[], Any] = batches
        if not samples:
            shards = stack.enter_context(Shards.temporary())
            with shards.writing() as write:
                for acts, labels in batches():
                    write(acts, labels)
            self._open = lambda: shards

    def to_learn_on(self) -> Iterator[Any]:
        """The samples to learn on, with their labels."""
        return self._part(True)

    def rest(self) -> Iterator[Any]:
        """The samples for the threshold, with their labels."""
        return self._part(False)

    def _part(self, learn: bool) -> Iterator[Any]:
        for batch, labels in self._open():
            keys = keys_of(batch)
            if self._groups is not None:
                keys = self._groups.of(keys)
            yield from part_of(batch, labels, keys, self.learn_share, learn=learn)


def part_of(
    batch: Any, labels: Tensor | None, keys: Sequence[str], share: float, *, learn: bool
) -> Iterator[Any]:
    """The samples of a batch to learn on, or those for the threshold; none where it has none."""
    rows = to_learn_on(keys, share) == learn
    if learn:  # samples that are not finite only count for the threshold, as the highest
        rows &= acts_of(batch).finite_rows().to(rows.device)
    if rows.any():
        yield batch[rows], None if labels is None else labels[rows]


def acts_of(batch: Activations | Sample) -> Activations:
    """The activations of a batch."""
    return batch.acts if isinstance(batch, Sample) else batch
