"""Counts of the data that a network ran on: samples, their kind, and right predictions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt64
from torch import Tensor

from offmap._utils.hashes import hashes_of
from offmap._utils.inputs import Inputs
from offmap._utils.warning import warn_user
from offmap.activations import Activations, Sample
from offmap.errors import ChanceWarning, DataError, LabelError, OverlapWarning

# Bytes of a sample that are hashed: large pictures that differ, differ in these too.
_BYTES = 16_384
# Fewer samples are too few for an accuracy.
_ENOUGH = 50


@dataclass
class Seen:
    """Counts samples, and right predictions where all have labels, as batches go by.

    Args:
        labelled: whether labels are to be read.
        hashing: whether to keep a hash of each sample, 8 bytes, by which samples that are in two
            sets are found.
        comparing: whether to run a few samples once more, without the rest of their batch.

    Attributes:
        samples: their number.
        right: number of right predictions.
        members: the same for each member of an ensemble.
        counts: samples by label.
        shape: of one sample, where the inputs are one tensor.
        dtype: likewise.
        names: of the inputs, where they are tensors by name.
    """

    labelled: bool = True
    hashing: bool = True
    samples: int = 0
    right: int = 0
    members: list[int] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    classes: int = 0
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    names: tuple[str, ...] = ()
    comparing: bool = False
    _hashes: array[int] = field(default_factory=lambda: array("Q"), repr=False)

    def look_at(self, inputs: Inputs) -> None:
        """Record the inputs of a batch, before the network runs on it."""
        if isinstance(inputs, Tensor) and self.shape is None:
            self.shape = tuple(inputs.shape[1:])
            self.dtype = str(inputs.dtype).removeprefix("torch.")
        if not isinstance(inputs, Tensor):
            self.names = tuple(inputs)
        if self.hashing:
            self._hashes.frombytes(hashes_of(inputs, at_most=_BYTES).tobytes())

    def add(self, batch: Activations | Sample, labels: Tensor | None) -> None:
        """Count a batch and its right predictions."""
        acts = batch.acts if isinstance(batch, Sample) else batch
        self.samples += len(acts)
        self.labelled = self.labelled and labels is not None and acts.has_predictions
        if labels is not None and self.labelled:
            self._compare(acts, labels)

    def _compare(self, acts: Activations, labels: Tensor) -> None:
        if labels.shape != (len(acts),):
            raise LabelError(
                f"labels must be {len(acts)} class indices, one a sample; seen shape "
                f"{tuple(labels.shape)}"
            )
        if labels.is_floating_point() and not bool(labels.isfinite().all()):
            invalid = int((~labels.isfinite()).sum())
            raise LabelError(
                f"{invalid} labels of a batch are NaN or infinite: give the number of each "
                "sample's class, or leave these samples out"
            )
        self.right += _right(acts, labels)
        members = acts.members if acts.classifier_logits is None else ()  # those that answer
        hits = [_right(member, labels) for member in members]
        self.members = [a + b for a, b in zip(self.members or [0] * len(hits), hits, strict=True)]
        values, counts = np.unique(labels.cpu().numpy(), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.counts[int(value)] = self.counts.get(int(value), 0) + count
        self.classes = max(self.classes, acts.logits.shape[1])

    def restart(self) -> None:
        """Start counting anew, without hashes."""
        vars(self).update(vars(Seen(hashing=False)))

    def extend(self, other: Seen) -> None:
        """Add the counts of another pass; its hashes are not taken over."""
        if not self.samples:
            self.shape, self.dtype, self.names = other.shape, other.dtype, other.names
        self.samples += other.samples
        self.labelled = self.labelled and other.labelled
        self.right += other.right
        # Empty of a part without samples, or without labels.
        members = other.members or [0] * len(self.members)
        pairs = zip(self.members or [0] * len(members), members, strict=True)
        self.members = [a + b for a, b in pairs]
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.classes = max(self.classes, other.classes)

    def take_hashes(self, other: Seen) -> None:
        """Take over the hashes and the kind of inputs of another pass."""
        if not self._hashes:
            self.shape, self.dtype, self.names = other.shape, other.dtype, other.names
        if self.hashing:
            self._hashes.extend(other._hashes)

    def through(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches, and count them."""
        for batch, labels in batches:
            self.add(batch, labels)
            yield batch, labels

    @property
    def hashes(self) -> UInt64[np.ndarray, " n"]:
        """The hashes of all samples that the network ran on."""
        return np.frombuffer(self._hashes, np.uint64)

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, where all samples have labels."""
        return self.right / self.samples if self.labelled and self.samples else None

    def shared_with(self, other: Seen) -> int:
        """How many of these samples are in another set too."""
        if not len(self._hashes) or not len(other._hashes):
            return 0
        return int(np.isin(self.hashes, other.hashes).sum())

    def warn_of_labels(self, name: str) -> None:
        """Warn of labels that the predictions do not fit.

        They are of no class of the network, or are hardly more right than by chance: another order
        of classes, or an untrained network.
        """
        if self.accuracy is None or self.classes < 2:
            return
        outside = {label: n for label, n in self.counts.items() if not 0 <= label < self.classes}
        if outside:
            first = ", ".join(map(str, sorted(outside)[:5])) + (", ..." if len(outside) > 5 else "")
            warn_user(
                f"{sum(outside.values()):,} of the {self.samples:,} labels of {name} are none of "
                f"the network's {self.classes} classes, 0 to {self.classes - 1}, and count as "
                f"wrong answers: {first}",
                ChanceWarning,
            )
        self._warn_near_chance(name, self.accuracy)

    def _warn_near_chance(self, name: str, accuracy: float) -> None:
        if self.samples < _ENOUGH:
            return
        # With a single class, its share says nothing of chance: all predictions may be right.
        most = max(self.counts.values()) / self.samples if len(self.counts) > 1 else 0
        chance = max(most, 1 / self.classes)
        # A tenth of the way from chance to all right.
        if accuracy < chance + 0.1 * (1 - chance):
            warn_user(
                f"the network is right on {accuracy:.1%} of the {self.samples:,} samples of "
                f"{name}, hardly more than by chance ({chance:.1%}): is it trained, and are the "
                "labels counted in the order of its outputs?",
                ChanceWarning,
            )

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {"samples": self.samples, "accuracy": self.accuracy, "dtype": self.dtype}


class EachPass:
    """Opens any number of passes over data, each with counts of its own.

    Args:
        opening: opens one, with the counts to fill.
    """

    def __init__(self, opening: Callable[[Seen], Iterator[Any]]) -> None:
        self._opening = opening
        self._opened: list[Seen] = []

    def __call__(self) -> Iterator[Any]:
        """The next pass, from the start."""
        self._opened.append(Seen())  # of its own, as keys may be indices from its start
        return self._opening(self._opened[-1])

    @property
    def seen(self) -> Seen:
        """The counts of the longest pass, as the first may end after one batch."""
        return max(self._opened, key=lambda seen: seen.samples)


def check_apart(name: str, seen: Seen, other_name: str, other: Seen, *, sets: bool) -> int:
    """Count the samples that two sets share and should not, and warn of them.

    Args:
        name: of the first set.
        seen: its samples.
        other_name: of the second.
        other: its samples.
        sets: whether both are named sets; shared samples of loaders only raise a warning.

    Raises:
        DataError: more than 1 % of either set are in the other.
    """
    count = seen.shared_with(other)
    if not count:
        return 0
    words = f"{count:,} of the {seen.samples:,} samples of the {name} stand in the {other_name} too"
    if sets and count > 0.01 * min(seen.samples, other.samples):
        raise DataError(
            f"{words}: what is measured on them says nothing of new data; leave them out"
        )
    warn_user(f"{words}, and should not", OverlapWarning)
    return count


def _right(acts: Any, labels: Tensor) -> int:
    return int((acts.predictions == labels).sum())
