"""Samples that come in groups, such as the frames of a video: one of each counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.errors import ArgumentError, DataError

GroupsOf = Callable[[str], Any] | Sequence[Any]
PARENT = "parent-folder"


class Groups:
    """The group of each sample, by its key or its position.

    The promise rests on independent samples. Samples of one group are not, so one of each group,
    chosen by a hash of its key, stands for it: the rate is that of a sample of a new group.

    Args:
        groups: a function from a sample's key, such as its path, to its group; or the group of each
            sample, in their order.

    Raises:
        ArgumentError: it is neither of these, such as a text or a mapping.
    """

    def __init__(self, groups: GroupsOf) -> None:
        if isinstance(groups, str):  # else its letters would be the groups
            raise ArgumentError(
                "groups must be a function from a sample's key to its group, or the group of each "
                f"sample; seen the text {groups!r}: give offmap.guard.groups.by_path({groups!r}), "
                "which reads the group from each path"
            )
        are_rows = hasattr(groups, "__len__") and hasattr(groups, "__getitem__")
        if not callable(groups) and (not are_rows or isinstance(groups, bytes | Mapping)):
            raise ArgumentError(
                "groups must be a function from a sample's key to its group, or the group of each "
                f"sample; seen {type(groups).__name__}: give a function, or a list in the order of "
                "the samples"
            )
        self._of = groups
        self._by_key: dict[str, str] = {}

    def through(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; the group of each key is noted on the way."""
        start = 0
        for batch, labels in batches:
            keys = keys_of(batch)
            end = start + len(keys)
            names = map(self._of, keys) if callable(self._of) else self._of[start:end]
            groups = [str(name) for name in names]
            groups += [""] * (len(keys) - len(groups))  # too few are refused below
            self._by_key.update(zip(keys, groups, strict=True))
            start = end
            yield batch, labels
        if not callable(self._of) and start != len(self._of):
            raise ArgumentError(
                f"groups must name one for each sample: there are {start:,} samples and "
                f"{len(self._of):,} groups"
            )

    def of(self, keys: Sequence[str]) -> list[str]:
        """The groups of samples whose batches went through."""
        return [self._by_key[key] for key in keys]

    def one_each(self, keys: Sequence[str]) -> Int64[Tensor, " g"]:
        """One sample of each group: that with the smallest hash, whatever the order."""
        representatives: dict[str, tuple[bytes, int]] = {}
        for i, (key, group) in enumerate(zip(keys, self.of(keys), strict=True)):
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest(), i
            representatives[group] = min(digest, representatives.get(group, digest))
        rows = sorted(i for _, i in representatives.values())
        return torch.tensor(rows, dtype=torch.int64, device="cpu")


def keys_of(batch: Activations | Sample) -> Sequence[str]:
    """The keys of a batch.

    Raises:
        DataError: it has none.
    """
    keys = (batch.acts if isinstance(batch, Sample) else batch).keys
    if keys is None:
        raise DataError("samples without keys cannot be told apart: give acts keys")
    return keys


def by_path(rule: str) -> Callable[[str], str]:
    r"""A function from a sample's key, which is a path, to its group.

    Args:
        rule: "parent-folder", or a regular expression that is searched for in the path: the group
            is its first group in brackets, or all that it matches.

    Raises:
        ArgumentError: it is no regular expression; or, of the function, a path without a match.

    >>> by_path(r"patient-(\d+)")("scans/patient-17/a.png")
    '17'
    """
    if rule == PARENT:
        return lambda key: str(PurePath(key).parent)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ArgumentError(
            f"groups must be {PARENT} or a regular expression; {rule!r} is none: {error}"
        ) from error

    def group(key: str) -> str:
        match = pattern.search(key)
        if match is None:
            raise ArgumentError(f"groups: nothing in {key!r} matches {rule!r}: give a wider one")
        return match[1] if pattern.groups and match[1] is not None else match[0]

    return group
