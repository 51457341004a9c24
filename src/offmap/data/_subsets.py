"""Subsets: seeded, by position, or by class."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from offmap._utils.arguments import did_you_mean, number, whole
from offmap._utils.samples import as_tensor
from offmap.data.types import KeyedBatch
from offmap.errors import ArgumentError, LabelError, UnknownNameError

Indices = Sequence[int] | NDArray[Any] | Tensor
_NAMED = 4  # classes spelled out in the name of a set


def sample_rows(n: int, total: int, seed: int) -> Int64[Tensor, " m"]:
    """Which ``n`` of ``total`` rows the seed chooses, ascending; all if there are no more.

    Under one seed, the choice of fewer rows is part of the choice of more.
    """
    n = whole("the number of samples", n)
    return _permutation(total, seed)[:n].sort().values


def sampled_name(name: str, n: int, total: int, seed: int) -> str:
    """The name of a sample that :func:`sample_rows` draws from a set."""
    return name if n >= total else f"{name}[{n} of {total}, seed {seed}]"


class Subsets(ABC):
    """A set of samples with keys, of which subsets can be made."""

    name: str
    half_of: str
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return described(self)

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def _derive(
        self,
        rows: Int64[Tensor, " m"],
        name: str,
        labels: Int64[Tensor, " m"] | None,
        classes: tuple[str, ...],
    ) -> Self:
        """The samples at ``rows``, with these labels, under another name."""

    @abstractmethod
    def keys(self, start: int, stop: int) -> tuple[str, ...]:
        """The keys of the samples from position ``start`` up to, but without, ``stop``.

        A key is the path of the file below the folder of the set, or the row of the file or array
        as text. It is that of the whole set in every subset.
        """

    @abstractmethod
    def keyed_batches(self, batch_size: int, start: int = 0) -> Iterator[KeyedBatch]:
        """Images, labels and keys in order; arguments as ``batches``."""

    @cached_property
    def label_fingerprint(self) -> str | None:
        """SHA-256 over type, shape and bytes of the labels; ``None`` without any."""
        return None if self.labels is None else sha256_of(self.labels)

    def take(self, n: int, seed: int = 0) -> Self:
        """``n`` samples chosen by the seed, in data order; all of them if there are no more."""
        rows = sample_rows(n, len(self), seed)
        name = sampled_name(self.name, n, len(self), seed)
        return self if n >= len(self) else self._at(rows, name)

    def split(self, share: float, seed: int = 0) -> tuple[Self, Self]:
        """Two disjoint sets that together are this one, each in data order.

        Args:
            share: the first holds ``round(share * n)`` samples, the second the others.
            seed: chooses which.

        Raises:
            ArgumentError: one of the two would be empty.
        """
        total = len(self)
        n = round(number("share", share) * total)
        if not 0 < n < total:
            raise ArgumentError(
                f"a share of {share} of the {total} samples of {self.name} leaves one side empty"
            )
        order = _permutation(total, seed)
        second_name = f"{self.name}[other {total - n} of {total}, seed {seed}]"
        first = self._at(order[:n].sort().values, sampled_name(self.name, n, total, seed))
        second = self._at(order[n:].sort().values, second_name)
        half_of = f"{self.name}, {n} of {total}, seed {seed}"
        return replace(first, half_of=half_of), replace(second, half_of=half_of)  # type: ignore[type-var]

    def subset(self, indices: Indices) -> Self:
        """The samples at these positions, in the order given; or those where a mask is true.

        Raises:
            ArgumentError: no samples, or a position outside the set.
        """
        rows, total = as_tensor(indices), len(self)
        if rows.dtype == torch.bool and len(rows) == total:
            rows = rows.nonzero().ravel()
        if rows.ndim != 1 or not len(rows) or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ArgumentError(
                f"positions in {self.name} must be one or more whole numbers, or a mask of {total} "
                f"truth values; seen {rows.dtype} of shape {tuple(rows.shape)}"
            )
        if rows.min() < 0 or rows.max() >= total:
            span = f"{int(rows.min())} to {int(rows.max())}"
            raise ArgumentError(
                f"{self.name} has positions 0 to {total - 1}; asked for were {span}"
            )
        return self._at(rows.long(), f"{self.name}[{len(rows)} chosen of {total}]")

    def only(self, classes: Sequence[str | int]) -> Self:
        """The samples of these classes, relabelled 0, 1, ... in the order given.

        Args:
            classes: names of classes, or labels.

        Raises:
            LabelError: the set has no labels, or no sample of these classes.
            UnknownNameError: no class of that name.
        """
        if self.labels is None:
            raise LabelError(f"{self.name} has no labels: its classes cannot be chosen")
        numbers = [self._label(name) for name in classes]
        if len(set(numbers)) < len(numbers):
            raise ArgumentError(f"a class was named twice, among labels {_listed(numbers)}")
        labels = torch.full_like(self.labels, -1)
        for new, old in enumerate(numbers):
            labels[self.labels == old] = new
        rows = (labels >= 0).nonzero().ravel()
        names = tuple(self.classes[label] for label in numbers) if self.classes else ()
        name = f"{self.name}[only {_listed(names or numbers)}]"
        if not len(rows):
            raise LabelError(f"{name} is empty: no sample has such a label")
        return self._derive(rows, name, labels[rows], names)

    def with_classes(self, classes: Sequence[str]) -> Self:
        """The same samples, with labels that count in these classes.

        Args:
            classes: names, among which are all those of this set.

        Raises:
            LabelError: the set has no labels or no names, or a name is missing.
        """
        if self.labels is None or not self.classes:
            raise LabelError(f"{self.name} has no labels with names: they cannot be matched")
        if missing := [name for name in self.classes if name not in classes]:
            raise LabelError(
                f"{self.name} has classes that are not among {_listed(classes)}: {_listed(missing)}"
            )
        numbers = torch.tensor([classes.index(name) for name in self.classes], device="cpu")
        fields = {"labels": numbers[self.labels], "classes": tuple(classes)}
        return replace(self, **fields)  # type: ignore[type-var]

    def _at(self, rows: Int64[Tensor, " m"], name: str) -> Self:
        labels = None if self.labels is None else self.labels[rows]
        return self._derive(rows, name, labels, self.classes)

    def _label(self, label: str | int) -> int:
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        if isinstance(label, str) or (self.classes and not 0 <= label < len(self.classes)):
            names = _listed(self.classes) or "without names"
            hint = did_you_mean(str(label), self.classes)
            raise UnknownNameError(
                f"{self.name} has no class {label!r}: {hint}its classes are {names}"
            )
        return int(label)


def _permutation(total: int, seed: int) -> Int64[Tensor, " n"]:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed), device="cpu")


def sha256_of(x: Tensor) -> str:
    """SHA-256 over type, shape and bytes of an array, in hexadecimal."""
    x = x.contiguous().cpu()
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)} ".encode())
    digest.update(x.numpy().data)
    return digest.hexdigest()


def described(data: Any) -> str:
    """A set in one line: its name, size, shape and classes, and how much of it is not used."""
    if data.labels is None:
        classes = "no labels"
    elif data.classes:
        classes = f"{len(data.classes)} classes ({_listed(data.classes)})"
    else:
        classes = f"labels {int(data.labels.min())} to {int(data.labels.max())}"
    shape = "x".join(map(str, data.shape))
    parts = [repr(data.name), f"{len(data):,} samples of {shape}", classes]
    parts += [f"{len(data.skipped)} unreadable"] if data.skipped else []
    parts += [f"{len(data.left_out)} left out"] if data.left_out else []
    return f"{type(data).__name__}({', '.join(parts)})"


def _listed(names: Sequence[object]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def check_range(start: int, stop: int) -> None:
    """Refuse arguments of ``keys`` that are no range of positions."""
    if not 0 <= start <= stop:
        raise ArgumentError(
            f"keys are those from start up to stop, 0 or more; seen {start} and {stop}"
        )


def check_reading(batch_size: int, start: int) -> None:
    """Refuse arguments of ``batches`` that are out of their ranges."""
    whole("batch_size", batch_size)
    whole("start", start, low=0)
